"""Split (two-piece) normal distributions: two halves of normals of different width, joined at the mode.

Wallis, "The Two-Piece Normal, Binormal, or Double Gaussian Distribution: Its Origin and Rediscoveries", Statistical
Science 29, 2014.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints, register_kl
from torch.special import ndtri

from lightning_gen.distributions.pushforward import Pushforward, ScaledLayer
from lightning_gen.distributions.special import normal_cdf


class SplitNormalDistribution(Pushforward):
    """p(z) = 2 / (√(2π) (σ₁ + σ₂)) exp(−(z − m)² / (2σ²)),  σ = σ₁ left of the mode m and σ₂ right of it.

    Args:
        loc: m.
        left: σ₁ > 0.
        right: σ₂ > 0; shapes broadcast.
        validate_args: as torch's distributions have it.
    """

    arg_constraints: ClassVar = {
        "loc": constraints.real,
        "left": constraints.positive,
        "right": constraints.positive,
    }
    support = constraints.real

    def __init__(self, loc: Tensor, left: Tensor, right: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.left, self.right = torch.broadcast_tensors(loc, left, right)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def push(self, noise: Tensor) -> Tensor:
        """F⁻¹(Φ(ε)); ε itself where σ₁ = σ₂ = 1 and m = 0."""
        return self._quantile(normal_cdf(noise), normal_cdf(-noise))

    def icdf(self, value: Tensor) -> Tensor:
        """The inverse of `cdf`, of values in (0, 1)."""
        return self._quantile(value, 1 - value)

    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        """Of the probabilities below and above, since each has its digits where it is small."""
        width, tiny = self.left + self.right, torch.finfo(below.dtype).tiny
        # clamped, for the half that is not chosen must not spoil the gradient
        left = ndtri((below * width / (2 * self.left)).clamp(tiny, 0.5))
        right = -ndtri((above * width / (2 * self.right)).clamp(tiny, 0.5))
        return self.loc + torch.where(below * width < self.left, self.left * left, self.right * right)

    def cdf(self, value: Tensor) -> Tensor:
        """2σ₁Φ(t)/(σ₁ + σ₂) left of the mode, 1 − 2σ₂Φ(−t)/(σ₁ + σ₂) right of it."""
        t = self._standardised(value)
        width = self.left + self.right
        return torch.where(t < 0, 2 * self.left * normal_cdf(t) / width, 1 - 2 * self.right * normal_cdf(-t) / width)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats."""
        return -0.5 * self._standardised(value).square() + self._log_peak

    def _standardised(self, value: Tensor) -> Tensor:
        apart = value - self.loc
        return apart / torch.where(apart < 0, self.left, self.right)

    @property
    def _log_peak(self) -> Tensor:
        return 0.5 * math.log(2 / math.pi) - (self.left + self.right).log()

    @property
    def mean(self) -> Tensor:
        """The mode plus √(2/π)(σ₂ − σ₁)."""
        return self.loc + math.sqrt(2 / math.pi) * (self.right - self.left)

    @property
    def variance(self) -> Tensor:
        """(1 − 2/π)(σ₂ − σ₁)² + σ₁σ₂."""
        return (1 - 2 / math.pi) * (self.right - self.left).square() + self.left * self.right

    def entropy(self) -> Tensor:
        """½ less the logarithm of the density at the mode."""
        return 0.5 - self._log_peak

    def moment_below(self, point: Tensor) -> Tensor:
        """E[min(z − point, 0)²]; ∫_{−∞}^u φ(t)(t − c)² dt = (1 + c²)Φ(u) + (2c − u)φ(u) for either half."""
        c, weight = (point - self.loc) / self.left, 2 * self.left / (self.left + self.right)
        first = weight * self.left.square() * _second_moment(c, c.clamp(max=0))
        c, weight = (point - self.loc) / self.right, 2 * self.right / (self.left + self.right)
        second = _second_moment(c, c.clamp(min=0)) - _second_moment(c, torch.zeros_like(c))
        return first + weight * self.right.square() * second

    def moment_above(self, point: Tensor) -> Tensor:
        """E[max(z − point, 0)²]."""
        return SplitNormalDistribution(-self.loc, self.right, self.left, validate_args=False).moment_below(-point)


def _second_moment(c: Tensor, u: Tensor) -> Tensor:
    density = (-0.5 * u.square()).exp() / math.sqrt(2 * math.pi)
    return (1 + c.square()) * normal_cdf(u) + (2 * c - u) * density


class SplitNormal(ScaledLayer):
    """A split normal for each latent variable: m, log σ₁² and log σ₂² linear in the features or learnt.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt m, σ₁ and σ₂.
        min_log_variance: log σ₁² and log σ₂² are at least this.
        max_log_variance: and at most this.
    """

    num_scales = 2

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        loc, left, right = self.loc_and_scales(h)
        base = SplitNormalDistribution(loc, left, right, validate_args=False)
        return Independent(base, 1, validate_args=False)


@register_kl(SplitNormalDistribution, Normal)
def _(q: SplitNormalDistribution, p: Normal) -> Tensor:
    square = (q.variance + (q.mean - p.loc).square()) / p.scale.square()
    return 0.5 * square + p.scale.log() + 0.5 * math.log(2 * math.pi) - q.entropy()


@register_kl(SplitNormalDistribution, SplitNormalDistribution)
def _(q: SplitNormalDistribution, p: SplitNormalDistribution) -> Tensor:
    square = q.moment_below(p.loc) / p.left.square() + q.moment_above(p.loc) / p.right.square()
    return 0.5 * square - p._log_peak - q.entropy()


@register_kl(Normal, SplitNormalDistribution)
def _(q: Normal, p: SplitNormalDistribution) -> Tensor:
    split = SplitNormalDistribution(q.loc, q.scale, q.scale, validate_args=False)
    return torch.distributions.kl_divergence(split, p)
