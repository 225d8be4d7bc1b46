"""Euler's and Heun's method for the probability flow, with the levels of Karras et al."""

import math
from abc import ABC

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.noise import Noise
from lightning_gen.samplers.diffusion.base import (
    Denoiser,
    DiffusionSampler,
    Level,
    denoise,
    level,
    standard_normal,
    towards,
)
from lightning_gen.schedules import NoiseSchedule

_MOST = 1e6
"""σ/α of a schedule from which no method with errors of a power of the step can start."""


class KarrasSampler(DiffusionSampler, ABC):
    """Levels whose (σ/α)^(1/ρ) are evenly spaced, then `CLEAN`.

        σ_i = (σ_max^(1/ρ) + i/(N − 1) (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ,   i = 0 … N − 1

    They are solved for times, which of a discrete schedule may lie between its steps.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
    arXiv:2206.00364, eq. 5.

    Args:
        steps: N, ≥ 1.
        rho: ρ, ≥ 1: the larger, the shorter the steps near the sample; the paper has 7.
        sigma_min: the least σ/α but 0; None for the schedule's.
        sigma_max: the largest σ/α, from which samples start; None for the schedule's.
        clip: bound of what the denoiser says, such as 1.0 of images; None for none.

    Raises:
        UserError: if an argument is out of its range, or later, beyond the schedule.
    """

    def __init__(
        self,
        steps: int = 18,
        rho: float = 7.0,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        clip: float | None = None,
    ) -> None:
        super().__init__(steps, clip)
        check_at_least(self, 1, rho=rho)
        self.rho, self.sigma_min, self.sigma_max = rho, sigma_min, sigma_max

    def ends(self, schedule: NoiseSchedule) -> tuple[float, float]:
        """The least and the largest σ/α.

        Raises:
            UserError: if they are not within the schedule's.
        """
        least, most = (level(schedule, t).ratio for t in (schedule.first, schedule.last))
        name, of = type(self).__name__, type(schedule).__name__
        for key, given in (("sigma_min", self.sigma_min), ("sigma_max", self.sigma_max)):
            if given is not None and not 0.999 * least <= given <= 1.001 * most:
                raise UserError(f"{name}.{key} is {given}: {of} goes from {least:.4g} to {most:.4g} (σ/α)")
        low, high = self.sigma_min or least, self.sigma_max or most
        if not low < high:
            raise UserError(f"{name}.sigma_min is {low:.4g}, not below sigma_max, {high:.4g}: make it smaller")
        if high > _MOST:
            raise UserError(f"{name}.sigma_max is unset, but {of} ends without any signal: set it, such as 80")
        return low, high

    def times(self, schedule: NoiseSchedule) -> Tensor:
        """(steps,) float64 times, most noise first."""
        low, high = (end ** (1 / self.rho) for end in self.ends(schedule))
        share = torch.linspace(0, 1, self.count(schedule), dtype=torch.float64, device="cpu")
        return schedule.time_of((high + share * (low - high)) ** self.rho)

    def check(self, schedule: NoiseSchedule) -> None:
        """See that the ends are within the schedule's, too."""
        super().check(schedule)
        self.ends(schedule)


class Euler(KarrasSampler):
    """One evaluation a step; errors fall as 1/steps. `DDIM` has the same steps at other levels.

    Source: Karras et al., NeurIPS 2022, arXiv:2206.00364, algorithm 1 without lines 6–8. Arguments of `KarrasSampler`.
    """

    def follow(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, noise: Noise) -> Tensor:
        """Without noise."""
        for here, there in self.pairs(schedule):
            x = towards(x, denoise(denoiser, x, here), here, there)
        return x


class Heun(KarrasSampler):
    """Two evaluations a step but the last, 2N − 1; errors fall as 1/steps². With churn, noise is added before a step.

        x̂ = x + √(σ̂² − σ²) S_noise ε,  σ̂ = σ (1 + γ),  γ = min(S_churn/N, √2 − 1) where S_min ≤ σ ≤ S_max, else 0

    of x/α and σ/α; σ̂ is at most the schedule's largest.

    Source: Karras et al., NeurIPS 2022, arXiv:2206.00364, algorithm 2 (algorithm 1 for S_churn = 0).

    Args:
        steps: N, ≥ 1.
        rho: see `KarrasSampler`.
        S_churn: how much noise is added in all, ≥ 0; 0 for a deterministic sampler.
        S_min: no noise is added below this σ/α.
        S_max: none is added above this one.
        S_noise: standard deviation of ε, ≥ 0.
        sigma_min: see `KarrasSampler`.
        sigma_max: see `KarrasSampler`.
        clip: bound of what the denoiser says, such as 1.0 of images; None for none.

    Raises:
        UserError: if an argument is out of its range, or later, beyond the schedule.
    """

    def __init__(
        self,
        steps: int = 18,
        rho: float = 7.0,
        S_churn: float = 0.0,
        S_min: float = 0.0,
        S_max: float = math.inf,
        S_noise: float = 1.0,
        sigma_min: float | None = None,
        sigma_max: float | None = None,
        clip: float | None = None,
    ) -> None:
        super().__init__(steps, rho, sigma_min, sigma_max, clip)
        check_at_least(self, 0, S_churn=S_churn, S_min=S_min, S_max=S_max, S_noise=S_noise)
        self.S_churn, self.S_min, self.S_max, self.S_noise = S_churn, S_min, S_max, S_noise

    def num_evaluations(self, schedule: NoiseSchedule) -> int:
        """2N − 1."""
        return 2 * self.count(schedule) - 1

    def follow(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, noise: Noise) -> Tensor:
        """The mean of two slopes, written so that nothing cancels: (D' − D) is small where the levels are large."""
        for here, there in self.pairs(schedule):
            hat = self.churned(here, schedule)
            if hat.ratio > here.ratio:
                added = self.S_noise * (hat.ratio**2 - here.ratio**2) ** 0.5
                x = hat.alpha * (x / here.alpha + added * standard_normal(noise, x))
            denoised = denoise(denoiser, x, hat)
            x = towards(x, denoised, hat, there)
            if there.sigma:
                change = denoise(denoiser, x, there) - denoised
                x = x + there.alpha * (hat.ratio / there.ratio - 1) / 2 * change
        return x

    def churned(self, here: Level, schedule: NoiseSchedule) -> Level:
        """The noisier level at which a step begins; the level itself where no noise is added."""
        if not (self.S_churn and self.S_min <= here.ratio <= self.S_max):
            return here
        gamma = min(self.S_churn / self.count(schedule), math.sqrt(2) - 1)
        ratio = torch.tensor(here.ratio * (1 + gamma), dtype=torch.float64, device="cpu")
        return level(schedule, float(schedule.time_of(ratio)))
