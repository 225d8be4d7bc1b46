"""Horizontal flips."""

import torch
from torch import Tensor

from lightning_gen.augmentation.base import Augmentation
from lightning_gen.augmentation.images import happens, needs_images
from lightning_gen.errors import UserError


class HorizontalFlip(Augmentation):
    """Mirrors images left to right.

    Args:
        probability: share of images that are mirrored, in [0, 1].

    Raises:
        UserError: if `probability` is out of its range.
    """

    def __init__(self, probability: float = 0.5) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise UserError(f"HorizontalFlip.probability is {probability}: it must be from 0 to 1")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Mirror some of (B, C, H, W) images."""
        return torch.where(happens(len(x), self.probability, x)[:, None, None, None], x.flip(-1), x)

    def check(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong unless samples are images."""
        return needs_images("HorizontalFlip", shape)
