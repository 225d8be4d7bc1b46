"""Codes without noise, as a variational layer."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from lightning_gen.distributions.base import Parameters, VariationalLayer
from lightning_gen.distributions.seeded import draw
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise


class PointMass(Distribution):
    """All mass at one point; it has draws, but no density.

    Args:
        value: (…, d) the point; the last dimension is the event's.
    """

    arg_constraints: ClassVar[dict[str, Constraint]] = {}
    has_rsample = True

    def __init__(self, value: Tensor) -> None:
        super().__init__(value.shape[:-1], value.shape[-1:], validate_args=False)
        self.value = value

    @property
    def mean(self) -> Tensor:
        """The point."""
        return self.value

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The point, as often as asked for."""
        return self.value.expand(self._extended_shape(torch.Size(sample_shape)))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The same without gradient, which expanding to the same shape would keep even where none is recorded."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """There is none.

        Raises:
            UserError: always.
        """
        raise UserError(
            "codes without noise (Deterministic) have no density, which a bound on the likelihood needs: use another"
            " layer there, such as DiagonalNormal"
        )


@draw.register
def _(distribution: PointMass, noise: Noise, num: int) -> Tensor:
    return distribution.value.expand(num, len(noise), -1)


class Deterministic(VariationalLayer):
    """A code that is linear in the features, without noise: the encoder of a plain autoencoder.

    For families that need codes alone, such as `AdversarialAutoencoder`; there is no density for a bound.
    """

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__(latent_dim, num_features)
        self.parameters_of = Parameters(num_features, latent_dim)

    def forward(self, h: Tensor | None = None) -> PointMass:
        """Of batch shape (B,), or ()."""
        return PointMass(self.parameters_of(h))
