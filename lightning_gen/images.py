"""The one conversion between the images that networks see and those that files hold."""

import torch
from torch import Tensor


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] → 0…255, rounded to the nearest level; values outside are clamped, never wrapped.

    Args:
        x: floating point, or uint8, which is returned as it is.

    Returns:
        uint8 of the same shape.
    """
    if x.dtype == torch.uint8:
        return x
    # in float32 whatever came in: half precision has too few bits for 256 levels
    return x.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(x: Tensor) -> Tensor:
    """0…255 → [-1, 1] as float32, which `to_uint8` takes back exactly; floating point is returned in float32."""
    return x.float() if x.is_floating_point() else x.to(torch.float32).div_(127.5).sub_(1)
