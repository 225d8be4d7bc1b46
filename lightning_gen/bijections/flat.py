"""`FlatBijection`: bijections of vectors, for samples of any shape."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from lightning_gen.bijections.base import Bijection
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.precision import exact, full


class FlatBijection(Bijection, ABC):
    """A bijection of the D entries of a sample, in float32 or more whatever the precision around it.

    Attributes:
        dim: D.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__(sample_shape, num_features)
        self.dim = prod(self.sample_shape)

    @abstractmethod
    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """From (B, D) to z (B, D), and log |det ∂z/∂x|, (B,)."""

    @abstractmethod
    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """From (B, D) to x (B, D), and log |det ∂x/∂z|, (B,)."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From samples to noise; see `Bijection`."""
        with exact(x):
            z, log_det = self.to_noise(full(x).flatten(1), None if h is None else full(h))
        return z.reshape(len(x), *self.latent_shape), log_det

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From noise to samples; see `Bijection`."""
        with exact(z):
            x, log_det = self.to_sample(full(z).flatten(1), None if h is None else full(h))
        return x.reshape(len(z), *self.sample_shape), log_det


def check_network(part: FlatBijection, transforms: int, hidden_features: Sequence[int]) -> None:
    """Raise `UserError` if there are no transforms, or no hidden layers."""
    check_at_least(part, 1, transforms=transforms)
    if not hidden_features or min(hidden_features) < 1:
        raise UserError(
            f"{type(part).__name__}.hidden_features is {list(hidden_features)}: give the width of at least one layer"
        )


def start_small(layer: nn.Module) -> None:
    """Let the last layer of a network start at a hundredth of its weights, so that a flow starts nearly as identity."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(0.01)
