"""Pieces of normal distributions, wherever they lie: masses, moments and quantiles without loss of digits in tails."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.special import erfcx

from lightning_gen.distributions.special import tail_moments

FAR = 1e15
"""Stands for infinity as the end of a piece: a finite number, or gradients would be 0 · ∞."""
_NEWTON_STEPS = 5


@dataclass(frozen=True)
class Piece:
    """N(μ, σ²) between two ends. All shapes broadcast.

    Everything is reckoned from the *anchor* c, the point between the ends where the density is largest: factors
    exp(−(c − μ)²/2σ²), which underflow, cancel or become terms of logarithms. What does not depend on c in exact
    arithmetic does not in its gradient, and so none goes through c.
    """

    low: Tensor
    """The lower end; −`FAR` for none."""
    high: Tensor
    """The upper end, ≥ `low`."""
    loc: Tensor
    """μ."""
    scale: Tensor
    """σ > 0."""

    @cached_property
    def anchor(self) -> Tensor:
        """The anchor c."""
        return torch.minimum(torch.maximum(self.loc, self.low), self.high).detach()

    @cached_property
    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Moments of both sides of the anchor, above it and below it in front."""
        away = (self.anchor - self.loc) / self.scale
        above, below = (self.high - self.anchor) / self.scale, (self.anchor - self.low) / self.scale
        return tail_moments(torch.stack((away, -away)), torch.stack((above, below)))

    @property
    def mass(self) -> Tensor:
        """∫ exp(((c − μ)² − (z − μ)²)/2σ²) dz/σ between the ends."""
        return self._halves[0].sum(0)

    @property
    def log_mass(self) -> Tensor:
        """Log of the probability of the piece under N(μ, σ²)."""
        away = (self.anchor - self.loc) / self.scale
        return self.mass.log() - 0.5 * away.square() - 0.5 * math.log(2 * math.pi)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """E[(z − c)/σ] and E[((z − c)/σ)²]."""
        mass, (_, first, second) = self.mass, self._halves
        return (first[0] - first[1]) / mass, second.sum(0) / mass

    def share(self, part: "Piece") -> Tensor:
        """Probability that a point of this piece is in a part of it."""
        apart, middle = part.anchor - self.anchor, (part.anchor + self.anchor) / 2
        return (-(apart / self.scale) * ((middle - self.loc) / self.scale)).exp() * part.mass / self.mass

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at a point between the ends."""
        apart, middle = value - self.anchor, (value + self.anchor) / 2
        return -(apart / self.scale) * ((middle - self.loc) / self.scale) - self.mass.log() - self.scale.log()

    def expected_log_prob(self, of: "Piece") -> Tensor:
        """E[log density of another piece between the same ends] of points of this one."""
        first, second = (self.scale * self.moments[0], self.scale.square() * self.moments[1])
        apart, twice = self.anchor - of.anchor, self.anchor + of.anchor - 2 * of.loc
        square = apart * twice + (apart + twice) * first + second
        return -0.5 * square / of.scale.square() - of.mass.log() - of.scale.log()

    def quantile(self, below: Tensor, above: Tensor) -> Tensor:
        """The point with these shares of the piece below and above it, which sum to 1; no gradient is meant."""
        up, down = self._halves[0].unbind(0)
        tiny = torch.finfo(up.dtype).tiny
        rises = above * self.mass < up
        away = (self.anchor - self.loc) / self.scale
        width = torch.where(rises, self.high - self.anchor, self.anchor - self.low) / self.scale
        beyond = torch.where(rises, above * self.mass / up.clamp(min=tiny), below * self.mass / down.clamp(min=tiny))
        t = _tail_quantile(torch.where(rises, away, -away).clamp(min=0), width, beyond.clamp(0, 1)) * self.scale
        last = torch.nextafter(self.high, self.low)  # rounding must not put it into the next piece, of another density
        return torch.minimum(torch.maximum(self.anchor + torch.where(rises, t, -t), self.low), last)


def _tail_quantile(a: Tensor, width: Tensor, beyond: Tensor) -> Tensor:
    """How far above a a standard normal between a ≥ 0 and a + width is exceeded with a probability.

    Newton's method for H(x) = x(a + x/2) − log(erfcx((a + x)/√2)/erfcx(a/√2)) = e, the hazard summed up from a. It is
    convex, and the start, from a hazard that grows linearly, not far above the root.
    """
    start = erfcx(a * math.sqrt(0.5))
    hazard = math.sqrt(2 / math.pi) / start

    def summed(x: Tensor) -> Tensor:
        return x * (a + x / 2) - (erfcx((a + x) * math.sqrt(0.5)) / start).log()

    outside = (-summed(width)).exp()
    e = -(outside + beyond * (1 - outside)).clamp(min=torch.finfo(a.dtype).tiny).log()
    slope = (hazard * (hazard - a)).clamp(0.5, 1)
    x = 2 * e / (hazard + (hazard.square() + 2 * slope * e).sqrt())
    for _ in range(_NEWTON_STEPS):
        x = x - (summed(x) - e) * erfcx((a + x) * math.sqrt(0.5)) * math.sqrt(math.pi / 2)
    return torch.minimum(x.clamp(min=0), width)
