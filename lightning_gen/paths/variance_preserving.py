"""Paths with α_t² + σ_t² = 1, on which data of unit variance keep it."""

import math

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.paths.base import ProbabilityPath


class VariancePreserving(ProbabilityPath):
    """x_t = sin(πt/2) x₁ + cos(πt/2) x₀ (Albergo, Vanden-Eijnden, ICLR 2023, arXiv:2209.15571)."""

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """On a quarter of a circle, at constant speed."""
        angle = t * (math.pi / 2)
        return angle.sin(), angle.cos()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """At right angles to the scales."""
        alpha, sigma = self.scales(t)
        return sigma * (math.pi / 2), -alpha * (math.pi / 2)


class VariancePreservingDiffusion(ProbabilityPath):
    """The path of the variance-preserving diffusion, backwards: α_t = exp(−T(1 − t)/2), σ_t = √(1 − α_t²).

    T(s) = β_min s + (β_max − β_min) s²/2 (Song et al., "Score-Based Generative Modeling through SDEs", ICLR 2021;
    Lipman et al., ICLR 2023, arXiv:2210.02747, eqs. 18–19: "FM w/ Diffusion"). Its velocities have no bound as t → 1,
    and at t = 0 a share α_0 of the sample is left, 0.7 % with these β, which sampling takes for noise.

    Args:
        beta_min: β of the diffusion at its start, next to the data, above 0.
        beta_max: β at its end, at least `beta_min`.
        margin: how long before t = 1 to stop, in (0, 1).

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, margin: float = 1e-5) -> None:
        if not beta_min > 0:
            raise UserError(f"VariancePreservingDiffusion.beta_min is {beta_min}: it must be above 0")
        check_at_least(self, beta_min, beta_max=beta_max)
        if not 0 < margin < 1:
            raise UserError(f"VariancePreservingDiffusion.margin is {margin}: it must be in (0, 1)")
        self.beta_min, self.beta_max, self.end = beta_min, beta_max, 1 - margin

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Of a Gaussian process."""
        s = 1 - t
        whole = s * (self.beta_min + (self.beta_max - self.beta_min) / 2 * s)
        return torch.exp(-whole / 2), torch.sqrt(-torch.expm1(-whole))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The second from α² + σ² = 1."""
        alpha, sigma = self.scales(t)
        rate = alpha * (self.beta_min + (self.beta_max - self.beta_min) * (1 - t)) / 2
        return rate, -alpha * rate / sigma
