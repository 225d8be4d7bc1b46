"""Space for channels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.image.shapes import image_shape
from lightning_gen.errors import UserError

_ORDER = (0, 3, 1, 2)
_BACK = (0, 2, 3, 1)


class Squeeze(Bijection):
    """Each square of 2×2 pixels becomes one pixel of four times the channels (Dinh et al., ICLR 2017, §3.6, figure 3).

    The first half of the new channels are the pixels of one colour of a chessboard, the second half those of the other.

    Args:
        sample_shape: (C, H, W), of even H and W.
        num_features: of features, which play no part.

    Raises:
        UserError: if a side is odd, or samples are no images.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__(sample_shape, num_features)
        channels, height, width = image_shape(self, sample_shape)
        if height % 2 or width % 2:
            raise UserError(f"Squeeze cannot halve maps of {height}×{width} pixels: both sides must be even")
        self.squeezed = (4 * channels, height // 2, width // 2)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(4C, H/2, W/2)."""
        return self.squeezed

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) → (B, 4C, H/2, W/2), and 0."""
        squares = F.pixel_unshuffle(x, 2).unflatten(1, (-1, 4)).transpose(1, 2)
        z = torch.cat([squares[:, k] for k in _ORDER], dim=1)
        return z, x.new_zeros(len(x))

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, 4C, H/2, W/2) → (B, C, H, W), and 0."""
        pixels = z.unflatten(1, (4, -1))
        squares = torch.stack([pixels[:, k] for k in _BACK], dim=2)
        return F.pixel_shuffle(squares.flatten(1, 2), 2), z.new_zeros(len(z))
