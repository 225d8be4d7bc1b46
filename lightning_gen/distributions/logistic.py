"""The logistic distribution, as prior."""

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.nn.functional import softplus

from lightning_gen.distributions.base import VariationalLayer, unconditional


class Logistic(Distribution):
    """p(x) = e^(−x) / (1 + e^(−x))², of mean 0 and variance π²/3.

    torch makes it of a uniform distribution, whose edges large numbers reach: their density is 0 there.

    Args:
        zeros: of the batch shape, for its device and type.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)
    support = constraints.real
    has_rsample = True

    def __init__(self, zeros: Tensor) -> None:
        super().__init__(zeros.shape, validate_args=False)
        self.zeros = zeros

    @property
    def mean(self) -> Tensor:
        """0."""
        return self.zeros

    @property
    def variance(self) -> Tensor:
        """π²/3."""
        return torch.full_like(self.zeros, math.pi**2 / 3)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Logistic":
        """The same, of a larger batch."""
        return Logistic(self.zeros.expand(torch.Size(batch_shape)))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """(…) draws; a difference of two Gumbel numbers, whose tails no rounding cuts."""
        shape = self._extended_shape(Size(sample_shape))
        first, second = (self.zeros.new_empty(shape).exponential_() for _ in range(2))
        return first.log() - second.log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of (…) numbers."""
        return -value - 2 * softplus(-value)

    def cdf(self, value: Tensor) -> Tensor:
        """Of (…) numbers."""
        return value.sigmoid()

    def icdf(self, value: Tensor) -> Tensor:
        """Of (…) numbers in (0, 1)."""
        return self.zeros + value.logit()

    def entropy(self) -> Tensor:
        """2 nats."""
        return torch.full_like(self.zeros, 2.0)


class StandardLogistic(VariationalLayer):
    """Independent logistic variables of location 0 and scale 1, the prior of NICE (arXiv:1410.8516, §3.4).

    Nothing is learnt. The variance is π²/3.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        return Independent(Logistic(self.zeros), 1, validate_args=False)
