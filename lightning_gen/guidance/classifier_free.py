"""Classifier-free guidance."""

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.guidance.base import Field, Guidance


class ClassifierFree(Guidance):
    """f(x) + s (f(x | y) − f(x)) (Ho, Salimans, "Classifier-Free Diffusion Guidance", arXiv:2207.12598, eq. 6).

    The paper's w is s − 1: s = 1 is no guidance, s = 0 ignores the condition. One pass of the network for both.

    Args:
        scale: s, ≥ 0.

    Raises:
        UserError: if `scale` is negative.
    """

    def __init__(self, scale: float = 1.5) -> None:
        if not scale >= 0:
            raise UserError(f"ClassifierFree.scale is {scale}: it must be at least 0, and 1 for no guidance")
        self.scale = scale

    def __call__(self, field: Field, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """(n, …), by one pass of 2n samples."""
        dropped = torch.arange(2, device=x.device).repeat_interleave(len(x)) == 1
        both = field(torch.cat((x, x)), torch.cat((t, t)), torch.cat((y, y)), dropped)
        given, free = both.chunk(2)
        return free + self.scale * (given - free)
