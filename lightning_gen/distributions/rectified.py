"""Rectified normal distributions: z = max(0, x) of a normal x, which is exactly 0 as often as x is negative.

Not a truncated normal: there is an atom at 0, which makes for sparse codes (Salimans, "A Structured Variational
Auto-encoder for Learning Deep Hierarchies of Sparse Features", arXiv:1602.08734, 2016).
"""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, constraints, register_kl
from torch.special import log_ndtr

from lightning_gen.distributions.base import VariationalLayer, unconditional
from lightning_gen.distributions.pushforward import Pushforward, ScaledLayer, refuse_divergence
from lightning_gen.distributions.special import normal_cdf

_JUMPS = "jump between the atom at 0 and the density above"


class RectifiedNormalDistribution(Pushforward):
    """z = max(0, μ + σε): 0 with probability Φ(−μ/σ), otherwise of the density of N(μ, σ²).

    The gradient of a sample is 0 where the sample is, which is right for expectations of continuous functions of z.
    `log_prob` is none: its expectation is right, but a gradient through samples misses what the jump between the atom
    and the density adds. Use the closed form of the divergence.

    Args:
        loc: μ.
        scale: σ > 0, of the same shape or one that broadcasts.
        validate_args: as torch's distributions have it.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.nonnegative

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def push(self, noise: Tensor) -> Tensor:
        """max(0, μ + σε)."""
        return (self.loc + self.scale * noise).relu()

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats with respect to a unit atom at 0 plus the Lebesgue measure above; −∞ below 0."""
        t = (value - self.loc) / self.scale
        density = -0.5 * t.square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        atom = log_ndtr(-self.loc / self.scale)
        return torch.where(value > 0, density, torch.where(value < 0, -math.inf, atom))

    @property
    def mean(self) -> Tensor:
        """μΦ(μ/σ) + σφ(μ/σ)."""
        positive, density = _masses(self.loc / self.scale)
        return self.loc * positive + self.scale * density

    @property
    def variance(self) -> Tensor:
        """(μ² + σ²)Φ(μ/σ) + μσφ(μ/σ) less the square of the mean."""
        positive, density = _masses(self.loc / self.scale)
        second = (self.loc.square() + self.scale.square()) * positive + self.loc * self.scale * density
        return (second - self.mean.square()).clamp(min=0)


def _masses(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Φ(α) and φ(α)."""
    return normal_cdf(alpha), (-0.5 * alpha.square()).exp() / math.sqrt(2 * math.pi)


class StandardRectifiedNormal(VariationalLayer):
    """max(0, x) of x ~ N(0, I), for sparse non-negative latents; nothing is learnt."""

    log_prob_fault = _JUMPS
    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        base = RectifiedNormalDistribution(self.zeros, torch.ones_like(self.zeros), validate_args=False)
        return Independent(base, 1, validate_args=False)


class RectifiedNormal(ScaledLayer):
    """max(0, x) of x ~ N(μ, diag σ²), μ and log σ² linear in the features or learnt.

    The prior must be rectified too, such as `StandardRectifiedNormal`.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt μ and σ.
        min_log_variance: log σ² is at least this.
        max_log_variance: and at most this.
    """

    log_prob_fault = _JUMPS

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        loc, scale = self.loc_and_scales(h)
        return Independent(RectifiedNormalDistribution(loc, scale, validate_args=False), 1, validate_args=False)


refuse_divergence(RectifiedNormalDistribution, "has an atom at 0 that the other lacks")


@register_kl(RectifiedNormalDistribution, RectifiedNormalDistribution)
def _(q: RectifiedNormalDistribution, p: RectifiedNormalDistribution) -> Tensor:
    """The atom's part, and with α = μ/σ the moments Φ, φ and Φ − αφ of ε above −α for the rest."""
    alpha = q.loc / q.scale
    log_atom = log_ndtr(-alpha)
    positive, density = _masses(alpha)
    second = positive - alpha * density
    apart = q.loc - p.loc
    quadratic = apart.square() * positive + 2 * q.scale * apart * density + q.scale.square() * second
    rest = positive * (p.scale / q.scale).log() - 0.5 * second + 0.5 * quadratic / p.scale.square()
    return log_atom.exp() * (log_atom - log_ndtr(-p.loc / p.scale)) + rest
