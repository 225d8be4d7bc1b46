"""Laplace distributions, as prior and as posterior."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, Normal, register_kl

from lightning_gen.distributions.base import Parameters, VariationalLayer, unconditional
from lightning_gen.losses.arguments import check_above


class StandardLaplace(VariationalLayer):
    """Independent Laplace variables of location 0 and scale 1; nothing is learnt."""

    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        return Independent(
            Laplace(self.zeros, torch.ones_like(self.zeros), validate_args=False), 1, validate_args=False
        )


class DiagonalLaplace(VariationalLayer):
    """Independent Laplace variables, p(z) = e^(−|z − μ|/b) / 2b, with μ and log b linear in the features.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt μ and b.
        min_log_scale: log b is at least this.
        max_log_scale: and at most this.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        min_log_scale: float = -10.0,
        max_log_scale: float = 10.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_above(self, min_log_scale, max_log_scale=max_log_scale)
        self.bounds = min_log_scale, max_log_scale
        self.parameters_of = Parameters(num_features, 2, latent_dim)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        loc, log_scale = self.parameters_of(h).unbind(-2)
        scale = log_scale.clamp(*self.bounds).exp()
        return Independent(Laplace(loc, scale, validate_args=False), 1, validate_args=False)


@register_kl(Normal, Laplace)
def _kl_normal_laplace(p: Normal, q: Laplace) -> Tensor:
    """The cross entropy, log 2b + E|z − m| / b, less the entropy.

    The distance is the mean of a folded normal distribution, with δ = μ − m

        E|z − m| = σ √(2/π) e^(−δ²/2σ²) + δ erf(δ / σ√2)

    torch has the divergence the other way round.
    """
    delta = p.loc - q.loc
    t = delta / (p.scale * math.sqrt(2))
    distance = p.scale * math.sqrt(2 / math.pi) * (-t.square()).exp() + delta * torch.erf(t)
    return (2 * q.scale).log() + distance / q.scale - p.entropy()
