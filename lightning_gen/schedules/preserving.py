"""Schedules whose noisy samples keep unit variance, by formulae in continuous time."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.schedules.base import NoiseSchedule


class VariancePreserving(NoiseSchedule, ABC):
    """α² + σ² = 1; a schedule says what ᾱ = α² is. Times are in [0, 1]."""

    last = 1.0

    @abstractmethod
    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """Log ᾱ(t), which falls with t."""

    @abstractmethod
    def time_at(self, log_alpha_bar: Tensor) -> Tensor:
        """Its inverse; what it gives beyond [first, 1] is cut off."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1 − ᾱ), the latter without cancellation."""
        log_alpha_bar = self.log_alpha_bar(t)
        return (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()

    def time_of(self, ratio: Tensor) -> Tensor:
        """Where log ᾱ = −log(1 + ratio²)."""
        return self.time_at(-torch.log1p(ratio.square())).clamp(self.first, self.last)

    def spread(self, u: Tensor) -> Tensor:
        """On a straight line."""
        return self.first + u * (self.last - self.first)


class ContinuousLinearBeta(VariancePreserving):
    """dx = −½β(t) x dt + √β(t) dw, β(t) = β_min + t (β_max − β_min): the limit of `LinearBeta` for T → ∞.

        log ᾱ(t) = −½ t² (β_max − β_min) − t β_min

    Source: Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021,
    arXiv:2011.13456, eqs. 32–33.

    Args:
        beta_min: β at t = 0, > 0.
        beta_max: β at t = 1, ≥ `beta_min`.
        first: the smallest time, > 0; 1e-3 in the paper's sampling (appendix C).

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, first: float = 1e-3) -> None:
        check_above(self, 0, beta_min=beta_min, first=first)
        if not beta_max >= beta_min:
            raise UserError(f"ContinuousLinearBeta.beta_max is {beta_max}: it must be at least beta_min, {beta_min}")
        if not first < 1:
            raise UserError(f"ContinuousLinearBeta.first is {first}: it must be below 1, the last time")
        self.beta_min, self.beta_max, self.first = beta_min, beta_max, first

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """−½ t² (β_max − β_min) − t β_min."""
        return -0.5 * t.square() * (self.beta_max - self.beta_min) - t * self.beta_min

    def time_at(self, log_alpha_bar: Tensor) -> Tensor:
        """The positive root, in the form that stays accurate near 0."""
        root = (self.beta_min**2 - 2 * (self.beta_max - self.beta_min) * log_alpha_bar).sqrt()
        return -2 * log_alpha_bar / (self.beta_min + root)


class LinearLogSNR(VariancePreserving):
    """log(α²/σ²) falls on a straight line with time.

    Source: Kingma et al., "Variational diffusion models", NeurIPS 2021, arXiv:2107.00630, §4.2 (where
    the ends are learnt; here `largest` is what they start from and `smallest` is where `LinearBeta` ends).

    Args:
        largest: log(α²/σ²) at t = 0.
        smallest: the same at t = 1, < `largest`.

    Raises:
        UserError: if the ends are the wrong way round.
    """

    first = 0.0

    def __init__(self, largest: float = 13.3, smallest: float = -10.0) -> None:
        if not (smallest < largest and math.isfinite(largest - smallest)):
            raise UserError(f"LinearLogSNR.smallest is {smallest}: it must be below largest, {largest}")
        self.largest, self.smallest = largest, smallest

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """Of the logistic function of log-SNR."""
        return logsigmoid(self.largest + t * (self.smallest - self.largest))

    def time_at(self, log_alpha_bar: Tensor) -> Tensor:
        """From log-SNR = log ᾱ − log(1 − ᾱ)."""
        log_snr = log_alpha_bar - (-torch.expm1(log_alpha_bar)).log()
        return (self.largest - log_snr) / (self.largest - self.smallest)
