"""Bringing images to a size: cover it, cut what stands over at both sides alike."""

import torch
from torch import Tensor
from torch.nn import functional

from lightning_gen.data.base import require


def size_pair(image_size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    """`image_size` as (height, width).

    Raises:
        UserError: it is neither one nor two positive integers.
    """
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    right = "a positive integer, or two: [height, width]"
    require(len(pair) == 2 and all(side >= 1 for side in pair), "image_size", image_size, right)
    return pair[0], pair[1]


def cover(x: Tensor, size: tuple[int, int], chunk: int = 4096) -> Tensor:
    """The largest centred part of each image that has the aspect of `size`, resized to it: bilinear, antialiased.

    Args:
        x: (N, C, H, W) uint8.
        size: (height, width), ≥ 1.
        chunk: images resized at a time, which bounds the memory for their floats.

    Returns:
        (N, C, height, width) uint8; `x` itself when it has this size.
    """
    (height, width), (high, wide) = x.shape[-2:], size
    if (height, width) == size:
        return x
    # the largest centred box of the wanted aspect
    h, w = min(height, round(width * high / wide)), min(width, round(height * wide / high))
    h, w = max(h, 1), max(w, 1)
    top, left = (height - h) // 2, (width - w) // 2
    out = torch.empty(*x.shape[:2], high, wide, dtype=torch.uint8)
    for part, target in zip(x[..., top : top + h, left : left + w].split(chunk), out.split(chunk), strict=True):
        resized = functional.interpolate(part.float(), size, mode="bilinear", align_corners=False, antialias=True)
        target.copy_(resized.round().clamp(0, 255))
    return out
