"""Scales and shifts of channels that start from the data."""

from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.bijections.base import Bijection
from lightning_gen.losses.processes import summed
from lightning_gen.precision import full

_CONSTANT = 1e-4


class ChannelAffine(nn.Module):
    """(x + b) · exp(s) for each channel, of mean 0 and variance 1 over the first batch of training.

    The batch's moments are those over all processes. Channels that are constant over it keep their scale.

    Args:
        channels: number of channels C ≥ 1.
    """

    started: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("started", torch.tensor(False))
        self._start_due = True  # the same as a plain value, which no step needs to wait for

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, …) → (B, C, …), of 32 bits or more."""
        x = full(x)
        if self.training and self._start_due:
            self.start(x.detach())
        return (x + _over(self.bias, x)) * _over(self.log_scale.exp(), x)

    def inverse(self, y: Tensor) -> Tensor:
        """(B, C, …) → (B, C, …)."""
        return y * _over((-self.log_scale).exp(), y) - _over(self.bias, y)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Take scales and shifts from a batch (B, C, …) of all processes."""
        rows = x.transpose(0, 1).flatten(1)
        count = summed(rows.new_tensor(float(rows.shape[1])))
        mean = summed(rows.sum(1)) / count
        std = (summed((rows - mean[:, None]).square().sum(1)) / count).sqrt()
        self.bias.copy_(-mean)
        self.log_scale.copy_(-torch.where(std > _CONSTANT, std, 1.0).log())
        self.started.fill_(True)
        self._start_due = False

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._start_due = not bool(self.started)


class ActNorm(Bijection):
    """z = exp(s) ⊙ (x + b), one scale and one shift a channel (Kingma, Dhariwal, "Glow", NeurIPS 2018, §3.1).

    The first batch of training sets them so that z has mean 0 and variance 1 in each channel; from then on they are
    learnt. Before it, in evaluation, z = x. Works for vectors too, whose numbers are the channels.

    Args:
        sample_shape: (C, …).
        num_features: of features, which play no part.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__(sample_shape, num_features)
        self.affine = ChannelAffine(self.sample_shape[0])
        self.pixels = prod(self.sample_shape[1:])

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise z, and Σ s over all entries."""
        z = self.affine(x)  # first: it may start the scales
        return z, self._log_det(x)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples x, and −Σ s."""
        return self.affine.inverse(z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.pixels * self.affine.log_scale.sum()).expand(len(x))


def _over(value: Tensor, x: Tensor) -> Tensor:
    """(C,) numbers in the shape in which they meet (B, C, …)."""
    return value.view(-1, *[1] * (x.ndim - 2))
