"""CLIP, whose image embedding CMMD compares."""

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.metrics.extractors.hugging_face import HuggingFaceExtractor


class CLIP(HuggingFaceExtractor):
    """The extractor `clip`: 768 features, the image embedding of CLIP ViT-L/14 at 336 pixels, of length 1.

    Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021; used by
    CMMD, Jayasumana et al., "Rethinking FID: Towards a Better Evaluation Metric for Image Generation", CVPR 2024.

    As their code does, images are cropped to the square in their middle and resized bicubically to bytes. That is PIL's
    resize but for a level or two in about one value of a thousand.

    Args:
        model: a name on the hub, or a folder. Others than the published one are named by size, patch and, where it is
            not 224, image: `clip_b32`, `clip_l14`.

    Raises:
        UserError: see `HuggingFaceExtractor`.
    """

    known: ClassVar[dict[str, tuple[str, int, int]]] = {
        "openai/clip-vit-large-patch14-336": ("clip", 768, 336),
        "openai/clip-vit-large-patch14": ("clip_l14", 768, 224),
        "openai/clip-vit-base-patch16": ("clip_b16", 512, 224),
        "openai/clip-vit-base-patch32": ("clip_b32", 512, 224),
    }
    model_types = ("clip", "clip_vision_model")
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    resize = "square in the middle, bicubic, antialiased, rounded to 0..255"

    def __init__(self, model: str = "openai/clip-vit-large-patch14-336") -> None:
        super().__init__(model)

    def describe(self, folder: Path) -> tuple[str, int, int]:
        """Named by width, patch and image."""
        from transformers import CLIPVisionConfig

        config = CLIPVisionConfig.from_pretrained(folder, local_files_only=True)
        width, patch, size = config.hidden_size, config.patch_size, config.image_size
        if (width, patch, size) == (1024, 14, 336):
            return self.known["openai/clip-vit-large-patch14-336"]
        letter = {768: "b", 1024: "l"}.get(width, f"{width}_")
        return f"clip_{letter}{patch}" + (f"_{size}" if size != 224 else ""), config.projection_dim, size

    def build(self, folder: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """The image's half of CLIP."""
        from transformers import CLIPVisionModelWithProjection

        return CLIPVisionModelWithProjection.from_pretrained(folder, **options)

    def resized(self, x: Tensor) -> Tensor:
        """The square in the middle, in whole levels."""
        height, width = x.shape[-2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        x = x[..., top : top + side, left : left + side]
        # as PIL: first along rows, then along columns, both to bytes
        for shape in ((side, self.size), (self.size, self.size)):
            x = F.interpolate(x, size=shape, mode="bicubic", antialias=True).round().clamp(0, 255)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """The embedding, of Euclidean length 1."""
        return F.normalize(self.network(pixel_values=x).image_embeds, dim=1)
