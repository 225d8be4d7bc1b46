"""Flows of several resolutions."""

from abc import ABC
from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from lightning_gen.bijections.base import Bijection


class MultiScale(Bijection, ABC):
    """Levels, after each of which but the last the second half of the channels leaves (Dinh et al., ICLR 2017, §3.6).

        h⁰ = x,    (h^{i+1}, z^{i+1}) = f^{i+1}(h^i),    z = (z¹, …, z^L)    (eqs. 13–16)

    A level may end with a bijection of what leaves, given what stays: then what leaves is standard normal after it, and
    not before (a learnt prior, Kingma, Dhariwal, "Glow", NeurIPS 2018).

    Args:
        sample_shape: (C, H, W).
        num_features: length F of features of a condition; None for none.
        levels: of the images, and of what stays of them after the level before.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None, levels: Sequence[Bijection]) -> None:
        super().__init__(sample_shape, num_features)
        self.levels = cast("list[Bijection]", nn.ModuleList(levels))
        self.sizes = [prod(level.latent_shape) // 2 for level in levels[:-1]] + [prod(levels[-1].latent_shape)]

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(D,): the levels' one after the other."""
        return (sum(self.sizes),)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise z (B, D), and log |det ∂z/∂x|, (B,)."""
        left, log_dets = [], []
        for level in self.levels[:-1]:
            x, log_det = level(x, h)
            x, leaving = x.chunk(2, dim=1)
            left.append(leaving.flatten(1))
            log_dets.append(log_det)
        x, log_det = self.levels[-1](x, h)
        return torch.cat((*left, x.flatten(1)), dim=1), torch.stack((*log_dets, log_det)).sum(0)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples x (B, C, H, W), and log |det ∂x/∂z|, (B,)."""
        *left, last = z.split(self.sizes, dim=1)
        x, log_det = self.levels[-1].inverse(last.unflatten(1, self.levels[-1].latent_shape), h)
        log_dets = [log_det]
        for level, leaving in zip(reversed(self.levels[:-1]), reversed(left), strict=True):
            x, log_det = level.inverse(torch.cat((x, leaving.view_as(x)), dim=1), h)
            log_dets.append(log_det)
        return x, torch.stack(log_dets).sum(0)


def halved(latent_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what stays of maps (C, H, W)."""
    return (latent_shape[0] // 2, *latent_shape[1:])
