"""Random affine maps of images, as 3×3 matrices (Karras et al., StyleGAN2-ADA, NeurIPS 2020, appendix B).

A matrix maps the place of an output pixel to the place in the input where it comes from: in pixels from the image's
centre, x to the right and y downwards, as homogeneous (x, y, 1). Each drawing function returns one for every image, the
identity for those to which its transformation, applied with a probability, is not.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_gen.augmentation.images import happens

Draw = Callable[[Tensor, Tensor], Tensor]
"""Maps (B, C, H, W) images and a 0-dim probability to (B, 3, 3) matrices of the same type."""

SHIFT = 0.125
"""Translations by whole pixels reach this share of a side each way; for others it is the standard deviation."""

SPREAD = 0.2
"""Standard deviation of the logarithm of a scale, to base 2."""


def flip(x: Tensor, probability: Tensor) -> Tensor:
    """Mirror left to right, half of those that are chosen."""
    mirrored = happens(len(x), probability, x) & happens(len(x), 0.5, x)
    return matrices(x, 1 - 2.0 * mirrored, 0, 0, 0, 1, 0)


def quarter_turn(x: Tensor, probability: Tensor) -> Tensor:
    """Rotate by 0, 90, 180 or 270 degrees."""
    turns = torch.where(happens(len(x), probability, x), torch.randint(0, 4, (len(x),), device=x.device), 0)
    cosine, sine = (1 - turns) * (turns % 2 == 0), (2 - turns) * (turns % 2 == 1)  # exact, unlike cos and sin
    return matrices(x, cosine, -sine, 0, sine, cosine, 0)


def pixel_shift(x: Tensor, probability: Tensor) -> Tensor:
    """Translate by whole pixels, uniformly up to an eighth of the sides."""
    return _translation(x, probability, lambda shares, side: torch.round((2 * shares - 1) * SHIFT * side), torch.rand)


def scale(x: Tensor, probability: Tensor) -> Tensor:
    """Scale both sides alike, by 2^N(0, 0.2²)."""
    factor = _factor(x, probability)
    return matrices(x, 1 / factor, 0, 0, 0, 1 / factor, 0)


def rotate(x: Tensor, probability: Tensor) -> Tensor:
    """Rotate by an angle from U(-π, π), before or after stretching: either has half the chance, 1 - √(1 - p)."""
    chosen = happens(len(x), 1 - (1 - probability).clamp(0, 1).sqrt(), x)
    angle = torch.where(chosen, (2 * torch.rand(len(x), device=x.device, dtype=x.dtype) - 1) * math.pi, 0.0)
    cosine, sine = angle.cos(), angle.sin()
    return matrices(x, cosine, -sine, 0, sine, cosine, 0)


def stretch(x: Tensor, probability: Tensor) -> Tensor:
    """Scale the sides by a factor and its inverse: the factor is 2^N(0, 0.2²)."""
    factor = _factor(x, probability)
    return matrices(x, 1 / factor, 0, 0, 0, factor, 0)


def shift(x: Tensor, probability: Tensor) -> Tensor:
    """Translate by any distance, from N(0, 0.125²) of the sides."""
    return _translation(x, probability, lambda normal, side: normal * SHIFT * side, torch.randn)


BLIT: tuple[Draw, ...] = (flip, quarter_turn, pixel_shift)
"""Those that only move pixels, in the order of the paper."""

GEOMETRY: tuple[Draw, ...] = (scale, rotate, stretch, rotate, shift)
"""Those that interpolate between pixels, in the order of the paper."""


def compose(first: Tensor, then: Tensor) -> Tensor:
    """(B, 3, 3) the map that applies `first` to an image, and `then` to what comes out."""
    return (first[:, :, :, None] * then[:, None, :, :]).sum(dim=2)  # a matrix product that autocast leaves alone


def warp(x: Tensor, places: Tensor) -> Tensor:
    """Take (B, C, H, W) images through (B, 3, 3) maps: bilinear, reflected at the border pixels.

    Images whose map is the identity are returned as they are, bit for bit. Gradients flow to `x`, but not a second time
    (torch has no second derivative of `grid_sample`).
    """
    height, width = x.shape[2:]
    column = (torch.arange(width, device=x.device, dtype=x.dtype) - (width - 1) / 2)[None, None, :]
    row = (torch.arange(height, device=x.device, dtype=x.dtype) - (height - 1) / 2)[None, :, None]
    entries = places[:, :2, :, None, None]
    across, down = (entries[:, k, 0] * column + entries[:, k, 1] * row + entries[:, k, 2] for k in (0, 1))
    grid = torch.stack((across * (2 / max(width - 1, 1)), down * (2 / max(height - 1, 1))), dim=3)
    moved = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    still = (places == identity(x)).flatten(1).all(dim=1)
    return torch.where(still[:, None, None, None], x, moved)


def identity(x: Tensor) -> Tensor:
    """(3, 3) of the type and on the device of `x`."""
    return torch.eye(3, device=x.device, dtype=x.dtype)


def matrices(x: Tensor, *entries: Tensor | float) -> Tensor:
    """(B, 3, 3) from the six entries of the upper two rows, each (B,) or a number, for images `x`."""
    parts = [entry.to(x.dtype) if isinstance(entry, Tensor) else x.new_full((len(x),), entry) for entry in entries]
    upper = torch.stack(parts, dim=1).unflatten(1, (2, 3))
    return torch.cat((upper, identity(x)[None, 2:].expand(len(x), 1, 3)), dim=1)


def _factor(x: Tensor, probability: Tensor) -> Tensor:
    drawn = torch.exp2(SPREAD * torch.randn(len(x), device=x.device, dtype=x.dtype))
    return torch.where(happens(len(x), probability, x), drawn, 1.0)


def _translation(
    x: Tensor, probability: Tensor, distance: Callable[[Tensor, int], Tensor], draw: Callable[..., Tensor]
) -> Tensor:
    chosen = happens(len(x), probability, x)
    across, down = (
        torch.where(chosen, -distance(draw(len(x), device=x.device, dtype=x.dtype), side), 0.0)
        for side in (x.shape[3], x.shape[2])
    )
    return matrices(x, 1, 0, across, 0, 1, down)
