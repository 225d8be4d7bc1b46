"""What a sampler of diffusion models is."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.noise import Noise
from lightning_gen.samplers.base import Sampler
from lightning_gen.schedules import NoiseSchedule

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""D(x; t) ≈ E[x_0 | x_t = x] of (n, …) noisy samples and (n,) times."""


class Level(NamedTuple):
    """A place on the way from noise to a sample, in plain numbers: the way is the same for all samples."""

    t: float
    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """σ/α, the noise level of x/α."""
        return self.sigma / self.alpha


CLEAN = Level(0.0, 1.0, 0.0)
"""Where the way ends: no noise, at which no network is asked."""


class DiffusionSampler(Sampler, ABC):
    """Follows a denoiser from noise to samples, through levels that the schedule and the number of steps fix.

    Any denoiser will do, whatever its network predicts, and any schedule. Nothing here waits for the device.

    Args:
        steps: levels at which samples are denoised, ≥ 1.
        clip: bound of what the denoiser says, such as 1.0 of images; None for none. The published DDPM of images has
            it; the samplers of EDM have not.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, steps: int | None, clip: float | None = None) -> None:
        if steps is not None and steps < 1:
            raise UserError(f"{type(self).__name__}.steps is {steps}: it must be at least 1")
        if clip is not None:
            check_above(self, 0, clip=clip)
        self.steps, self.clip = steps, clip

    # ---------------------------------------------------------------- the way

    def count(self, schedule: NoiseSchedule) -> int:
        """Levels at which samples are denoised."""
        assert self.steps is not None
        return self.steps

    def num_evaluations(self, schedule: NoiseSchedule) -> int:
        """How often the denoiser is asked for a sample; one pass of the network each, of two samples with guidance."""
        return self.count(schedule)

    def times(self, schedule: NoiseSchedule) -> Tensor:
        """(steps,) float64 times, most noise first: evenly as training draws them, both ends of the schedule included.

        Of a discrete schedule these are steps, "evenly spaced real numbers between 1 and T (inclusive)", rounded
        (Nichol, Dhariwal, ICML 2021, arXiv:2102.09672, §4).
        """
        return schedule.spread(torch.linspace(1, 0, self.count(schedule), dtype=torch.float64, device="cpu"))

    def levels(self, schedule: NoiseSchedule) -> list[Level]:
        """Where samples are denoised, most noise first, and `CLEAN`."""
        times = self.times(schedule)
        columns = (times, *schedule(times))
        return [*(Level(*row) for row in torch.stack(columns, dim=1).tolist()), CLEAN]

    def check(self, schedule: NoiseSchedule) -> None:
        """Raise `UserError` if the schedule has too few steps."""
        asked, steps = self.num_evaluations(schedule), schedule.num_steps
        if steps is not None and asked > steps:
            name = type(self).__name__
            raise UserError(
                f"{name}.steps is {self.steps}, which takes {asked} evaluations of the network, but"
                f" {type(schedule).__name__} has only {steps} steps: lower the former"
            )

    # ---------------------------------------------------------------- samples

    @abstractmethod
    def follow(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, noise: Noise) -> Tensor:
        """As `__call__`, from x (n, …) at the first level."""

    def __call__(self, denoiser: Denoiser, schedule: NoiseSchedule, z: Tensor, noise: Noise) -> Tensor:
        """Samples from noise.

        Args:
            denoiser: asked in one batch for all samples.
            schedule: that the denoiser was trained with.
            z: (n, …) from N(0, I).
            noise: one stream a sample, for samplers that add noise on the way; deterministic ones leave it alone.

        Returns:
            (n, …), in the dtype of z.
        """
        start = self.levels(schedule)[0]
        if self.clip is None:
            return self.follow(denoiser, schedule, start.sigma * z, noise)
        bound = self.clip
        return self.follow(lambda x, t: denoiser(x, t).clamp(-bound, bound), schedule, start.sigma * z, noise)

    def pairs(self, schedule: NoiseSchedule) -> list[tuple[Level, Level]]:
        """Each level with the next."""
        return list(pairwise(self.levels(schedule)))


def level(schedule: NoiseSchedule, t: float) -> Level:
    """The level of a time."""
    alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64, device="cpu"))
    return Level(t, float(alpha), float(sigma))


def denoise(denoiser: Denoiser, x: Tensor, level: Level) -> Tensor:
    """D(x; t), (n, …), of x (n, …) at a level."""
    return denoiser(x, x.new_full((len(x),), level.t))


def towards(x: Tensor, denoised: Tensor, here: Level, there: Level) -> Tensor:
    """One step of the probability flow, exact if the denoiser said the same all the way.

        x' = α' D + (σ'/σ) (x − α D)

    Euler's step of d(x/α)/d(σ/α) (Karras et al., NeurIPS 2022, arXiv:2206.00364, eq. 4), which is DDIM's (Song et al.,
    ICLR 2021, arXiv:2010.02502, eq. 13), and DPM-Solver++'s of first order.
    """
    return there.alpha * denoised + there.sigma / here.sigma * (x - here.alpha * denoised)


def standard_normal(noise: Noise, x: Tensor) -> Tensor:
    """(n, …) from N(0, I), like x (n, …)."""
    return noise.normal(*x.shape[1:], dtype=x.dtype)
