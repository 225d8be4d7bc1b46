"""Bijections one after the other."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lightning_gen.bijections.base import Bijection


class Chain(Bijection):
    """One bijection after the other; log-determinants add up.

    Args:
        steps: in the order from samples to noise, each for the shape that the one before it gives; at least one.
    """

    def __init__(self, steps: Sequence[Bijection]) -> None:
        super().__init__(steps[0].sample_shape, steps[0].num_features)
        self.steps = cast("list[Bijection]", nn.ModuleList(steps))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The last one's."""
        return self.steps[-1].latent_shape

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Through all of them."""
        log_dets = []
        for step in self.steps:
            x, log_det = step(x, h)
            log_dets.append(log_det)
        return x, torch.stack(log_dets).sum(0)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Back, the last one first."""
        log_dets = []
        for step in reversed(self.steps):
            z, log_det = step.inverse(z, h)
            log_dets.append(log_det)
        return z, torch.stack(log_dets).sum(0)

    def samples(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """As `inverse`, without log-determinants."""
        for step in reversed(self.steps):
            z = step.samples(z, h)
        return z

    def check(self, x: Tensor) -> None:
        """Each checks what those before it make of the samples."""
        for step in self.steps:
            step.check(x)
            x = step(x, None if step.num_features is None else x.new_zeros(len(x), step.num_features))[0]
