"""Random affine maps of colours (Karras et al., StyleGAN2-ADA, NeurIPS 2020, appendix B).

A map is a (B, 3, 4) matrix: its first three columns multiply (red, green, blue), its last is added. Each drawing
function returns one for every image, the identity for those to which its transformation is not applied.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.augmentation.images import happens

Draw = Callable[[Tensor, Tensor], Tensor]
"""Maps (B, C, H, W) images and a 0-dim probability to (B, 3, 4) maps of the same type."""


def brightness(x: Tensor, probability: Tensor) -> Tensor:
    """Add a number from N(0, 0.2²)."""
    added = torch.where(happens(len(x), probability, x), 0.2 * _normal(x), 0.0)
    return torch.cat((_eye(x).expand(len(x), 3, 3), added[:, None, None].expand(-1, 3, 1)), dim=2)


def contrast(x: Tensor, probability: Tensor) -> Tensor:
    """Multiply by 2^N(0, ½²)."""
    factor = torch.where(happens(len(x), probability, x), torch.exp2(0.5 * _normal(x)), 1.0)
    return _linear(factor[:, None, None] * _eye(x))


def luma_flip(x: Tensor, probability: Tensor) -> Tensor:
    """Reflect the grey of half of those that are chosen, keeping the hue."""
    flipped = happens(len(x), probability, x) & happens(len(x), 0.5, x)
    return _linear(_eye(x) - 2.0 * flipped[:, None, None] * _grey(x))


def hue(x: Tensor, probability: Tensor) -> Tensor:
    """Rotate colours about the grey axis by an angle from U(-π, π)."""
    angle = (2 * torch.rand(len(x), device=x.device, dtype=x.dtype) - 1) * math.pi
    angle = torch.where(happens(len(x), probability, x), angle, 0.0)[:, None, None]
    shifted = _eye(x).roll(1, dims=0)
    cross = (shifted - shifted.T) / math.sqrt(3)  # v ↦ axis × v (Rodrigues)
    return _linear(angle.cos() * _eye(x) + (1 - angle.cos()) * _grey(x) + angle.sin() * cross)


def saturation(x: Tensor, probability: Tensor) -> Tensor:
    """Multiply the distance from grey by 2^N(0, 1)."""
    factor = torch.where(happens(len(x), probability, x), torch.exp2(_normal(x)), 1.0)[:, None, None]
    return _linear(_grey(x) + factor * (_eye(x) - _grey(x)))


COLOUR: tuple[Draw, ...] = (brightness, contrast, luma_flip, hue, saturation)
"""All, in the order of the paper."""


def recolour(x: Tensor, colours: Tensor) -> Tensor:
    """Take (B, C, H, W) images of 1 or 3 channels through a (B, 3, 4) map; grey is taken for three equal colours."""
    shades = x.expand(-1, 3, -1, -1)
    entries = colours[:, :, :, None, None]
    found = entries[:, :, 3]
    for channel in range(3):  # no matrix product: autocast would round it
        found = found + entries[:, :, channel] * shades[:, channel, None]
    return found if x.shape[1] == 3 else found.mean(dim=1, keepdim=True)


def _normal(x: Tensor) -> Tensor:
    return torch.randn(len(x), device=x.device, dtype=x.dtype)


def _eye(x: Tensor) -> Tensor:
    return torch.eye(3, device=x.device, dtype=x.dtype)


def _grey(x: Tensor) -> Tensor:
    """The projection on (1, 1, 1)."""
    return x.new_full((3, 3), 1 / 3)


def _linear(matrix: Tensor) -> Tensor:
    return torch.cat((matrix, torch.zeros_like(matrix[:, :, :1])), dim=2)
