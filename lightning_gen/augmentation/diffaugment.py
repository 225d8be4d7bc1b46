"""DiffAugment (Zhao, Liu, Lin, Zhu, Han, "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020).

Each way draws one number, or one place, for every image.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_gen.augmentation.base import Augmentation
from lightning_gen.augmentation.images import needs_colours, needs_images
from lightning_gen.errors import UserError

Policy = Literal["color", "translation", "cutout"]

SHIFT = 1 / 8
"""The largest translation, in sides."""

HOLE = 1 / 2
"""The side of the square that cutout blanks, in sides."""


class DiffAugment(Augmentation):
    """Changes every image, in each of the chosen ways (§3.2, appendix C).

    Args:
        policy: any of `color` (brightness, saturation, contrast), `translation` and `cutout`, applied in the
            order given. The paper takes all three where images are few.

    Raises:
        UserError: if a way is unknown or given twice.
    """

    def __init__(self, policy: tuple[Policy, ...] = ("color", "translation", "cutout")) -> None:
        super().__init__()
        if unknown := [name for name in policy if name not in _WAYS]:
            raise UserError(f"DiffAugment.policy has {unknown[0]!r}: it takes any of {', '.join(get_args(Policy))}")
        if len(set(policy)) < len(policy):
            raise UserError(f"DiffAugment.policy is {list(policy)}: give each of its entries once")
        self.policy = tuple(policy)

    def forward(self, x: Tensor) -> Tensor:
        """Change (B, C, H, W) images of values in [-1, 1]; what is moved in or blanked is 0."""
        for name in self.policy:
            for way in _WAYS[name]:
                x = way(x)
        return x

    def check(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong unless samples are images, with one or three channels where colours are changed."""
        if found := needs_images("DiffAugment", shape):
            return found
        return needs_colours("color in DiffAugment.policy", shape) if "color" in self.policy else None


def brightness(x: Tensor) -> Tensor:
    """Add a number from U(-½, ½) to each image."""
    return x + (_uniform(x) - 0.5)


def saturation(x: Tensor) -> Tensor:
    """Scale the distance of each pixel from its grey by a number from U(0, 2)."""
    grey = x.mean(dim=1, keepdim=True)
    return grey + (x - grey) * (2 * _uniform(x))


def contrast(x: Tensor) -> Tensor:
    """Scale the distance of each image from its mean by a number from U(½, 3/2)."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (_uniform(x) + 0.5)


def translation(x: Tensor) -> Tensor:
    """Move each image by whole pixels, up to an eighth of its sides each way; zeros move in."""
    rows, columns = (_moved(x, side) for side in (2, 3))
    inside = rows[1][:, None, :, None] & columns[1][:, None, None, :]
    x = x.gather(2, rows[0][:, None, :, None].expand(x.shape))
    return x.gather(3, columns[0][:, None, None, :].expand(x.shape)) * inside


def cutout(x: Tensor) -> Tensor:
    """Blank a rectangle of half the sides, centred anywhere, in each image."""
    rows, columns = (_hole(x, side) for side in (2, 3))
    return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


def _uniform(x: Tensor) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, dtype=x.dtype, device=x.device)


def _moved(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """(B, side) where each row or column comes from, and whether that is inside the image."""
    side = x.shape[dim]
    most = int(side * SHIFT + 0.5)
    shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
    source = torch.arange(side, device=x.device) + shift
    return source.clamp(0, side - 1), (source >= 0) & (source < side)


def _hole(x: Tensor, dim: int) -> Tensor:
    """(B, side) whether each row or column is within the rectangle."""
    side = x.shape[dim]
    size = int(side * HOLE + 0.5)
    centre = torch.randint(0, side + 1 - size % 2, (len(x), 1), device=x.device)
    start = centre - size // 2
    place = torch.arange(side, device=x.device)
    return (place >= start) & (place < start + size)


_WAYS: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}
