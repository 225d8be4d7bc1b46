"""Densities in full precision, whatever the networks around them are computed in."""

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact(x: Tensor) -> torch.autocast:
    """A context in which autocast leaves matrix products on the device of `x` alone."""
    return torch.autocast(x.device.type, enabled=False)
