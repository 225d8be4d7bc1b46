"""DINOv2, whose class token compares images of any kind."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.metrics.extractors.hugging_face import HuggingFaceExtractor


class DINOv2(HuggingFaceExtractor):
    """The extractor `dinov2`: 1024 features, the class token of DINOv2 ViT-L/14 after its last normalisation.

    Source: Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024; proposed for
    evaluation by Stein et al., "Exposing flaws of generative model evaluation metrics…", NeurIPS 2023. `FID` with it is
    their FD_DINOv2.

    Images are resized as Karras et al. do ("Analyzing and Improving the Training Dynamics of Diffusion Models", CVPR
    2024): in float32, antialiased, neither rounded nor clamped. Stein et al. resize with PIL, which rounds to bytes.
    Position embeddings are resized as the authors of DINOv2 do, which moves them by a fraction of a pixel against
    transformers' own way.

    Args:
        model: `facebook/dinov2-small`, `-base`, `-large` or `-giant`, or a folder that holds one of them. Others than
            `large` are named `dinov2_small` and so on.

    Raises:
        UserError: see `HuggingFaceExtractor`.
    """

    known: ClassVar[dict[str, tuple[str, int, int]]] = {
        "facebook/dinov2-small": ("dinov2_small", 384, 224),
        "facebook/dinov2-base": ("dinov2_base", 768, 224),
        "facebook/dinov2-large": ("dinov2", 1024, 224),
        "facebook/dinov2-giant": ("dinov2_giant", 1536, 224),
    }
    model_types = ("dinov2",)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    resize = "bicubic, antialiased, in float32"

    def __init__(self, model: str = "facebook/dinov2-large") -> None:
        super().__init__(model)

    def describe(self, folder: Path) -> tuple[str, int, int]:
        """Published sizes by their names, others by their number of features."""
        from transformers import Dinov2Config

        d = Dinov2Config.from_pretrained(folder, local_files_only=True).hidden_size
        names = {features: name for name, features, _ in self.known.values()}
        return names.get(d, f"dinov2_{d}"), d, 224

    def build(self, folder: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """The transformer, its position embeddings made for 224×224."""
        from transformers import Dinov2Model

        network, told = Dinov2Model.from_pretrained(folder, **options)
        embeddings = network.embeddings
        positions = original_positions(embeddings.position_embeddings.detach().float(), self.size // 14)
        embeddings.position_embeddings = nn.Parameter(positions)
        return network, told

    def resized(self, x: Tensor) -> Tensor:
        """Squeezed to a square, as it comes."""
        return F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True)

    def embed(self, x: Tensor) -> Tensor:
        """The class token after the last normalisation."""
        return self.network(pixel_values=x).pooler_output


def original_positions(positions: Tensor, side: int) -> Tensor:
    """Position embeddings for another grid, by the rule of DINOv2's authors.

    They pass the scale (side + 0.1) / M instead of side / M, against rounding of the resulting size; coordinates follow
    that scale. transformers passes the size.

    Args:
        positions: (1, 1 + M², d): the class token's, then a grid's of M×M patches.
        side: patches along an edge of the new grid.

    Returns:
        (1, 1 + side², d).
    """
    count, d = positions.shape[1] - 1, positions.shape[2]
    edge = int(count**0.5)
    if edge == side:
        return positions
    grid = positions[:, 1:].reshape(1, edge, edge, d).permute(0, 3, 1, 2)
    scale = (side + 0.1) / edge
    grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, side * side, d)], dim=1)
