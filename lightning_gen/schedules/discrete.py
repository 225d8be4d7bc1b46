"""Schedules of T steps, each of which adds a little noise."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.schedules.preserving import VariancePreserving

_LEAST_LOG = -46.0
"""log ᾱ that stands for no signal at all: α is 1e-10."""

_SIGNAL = 0.1
"""α at the last step, above which samples that start from noise alone would miss much of the signal."""


class DiscreteSchedule(VariancePreserving, ABC):
    """x_k = √(1 − β_k) x_{k−1} + √β_k ε for k = 1 … T, so ᾱ_k = Π (1 − β_j) (Ho et al., 2020, eqs. 2 and 4).

    Step k is the time k/T. Training draws whole steps; solvers of differential equations may ask for times between
    them, where log ᾱ is interpolated linearly (Lu et al., "DPM-Solver", NeurIPS 2022, arXiv:2206.00927, appendix D.2).

    Args:
        log_alpha_bars: log ᾱ_1 … log ᾱ_T, falling.

    Raises:
        UserError: if much of the signal is left at step T.
    """

    num_steps: int

    @abstractmethod
    def __init__(self, log_alpha_bars: Sequence[float]) -> None:
        self.num_steps = len(log_alpha_bars)
        self.first = 1 / self.num_steps
        if (left := math.exp(log_alpha_bars[-1] / 2)) > _SIGNAL:
            raise UserError(
                f"{type(self).__name__}.num_steps is {self.num_steps}, after which {left:.2f} of the signal is left,"
                f" but samples start from noise alone: leave at most {_SIGNAL}, with more steps or larger betas"
            )
        self.table = [0.0, *log_alpha_bars]
        self._copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def _table(self, like: Tensor) -> Tensor:
        """(T + 1,) log ᾱ where a tensor is; copied there once, since a copy a step would wait for the device."""
        key = (like.device, like.dtype)
        if key not in self._copies:
            self._copies[key] = torch.tensor(self.table, dtype=like.dtype, device=like.device)
        return self._copies[key]

    def log_alpha_bar(self, t: Tensor) -> Tensor:
        """From the table."""
        place = (t * self.num_steps).clamp(0, self.num_steps)
        below = place.floor().clamp(max=self.num_steps - 1)
        table, k = self._table(t), below.to(torch.int64)
        return torch.lerp(table[k], table[k + 1], place - below)

    def time_at(self, log_alpha_bar: Tensor) -> Tensor:
        """From the table."""
        table = self._table(log_alpha_bar)
        above = torch.searchsorted(-table, -log_alpha_bar.contiguous()).clamp(1, self.num_steps)
        share = (log_alpha_bar - table[above - 1]) / (table[above] - table[above - 1])
        return (above - 1 + share) / self.num_steps

    def spread(self, u: Tensor) -> Tensor:
        """Whole steps, each of as many u."""
        step = (u * self.num_steps - 1e-4).ceil()  # not one more where the product is rounded up
        return step.clamp(1, self.num_steps) / self.num_steps


class LinearBeta(DiscreteSchedule):
    """β_k on a straight line (Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", arXiv:2006.11239, §4).

    Args:
        num_steps: T, ≥ 1; the betas are for 1,000, with fewer steps they must be larger.
        beta_start: β_1, in (0, 1).
        beta_end: β_T, in (0, 1), ≥ `beta_start`.

    Raises:
        UserError: if an argument is out of its range, or much of the signal is left at step T.
    """

    def __init__(self, num_steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> None:
        check_at_least(self, 1, num_steps=num_steps)
        if not 0 < beta_start <= beta_end < 1:
            raise UserError(
                f"LinearBeta.beta_start is {beta_start} and beta_end {beta_end}: they must be in (0, 1), the former at"
                " most the latter"
            )
        slope = (beta_end - beta_start) / max(num_steps - 1, 1)
        super().__init__(_products([beta_start + k * slope for k in range(num_steps)]))


class CosineBeta(DiscreteSchedule):
    """ᾱ_k = f(k/T) / f(0), f(t) = cos²(π/2 · (t + s) / (1 + s)).

    Source: Nichol, Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021, arXiv:2102.09672, eq. 17.

    Args:
        num_steps: T, ≥ 1.
        offset: s, ≥ 0, which keeps the first steps from being too small.
        largest_beta: bound of 1 − ᾱ_k/ᾱ_{k−1}, in (0, 1), which keeps the last ones from being too large.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, num_steps: int = 1000, offset: float = 0.008, largest_beta: float = 0.999) -> None:
        check_at_least(self, 1, num_steps=num_steps)
        check_at_least(self, 0, offset=offset)
        if not 0 < largest_beta < 1:
            raise UserError(f"CosineBeta.largest_beta is {largest_beta}: it must be in (0, 1)")
        bars = [math.cos(math.pi / 2 * (k / num_steps + offset) / (1 + offset)) ** 2 for k in range(num_steps + 1)]
        betas = [min(1 - bars[k + 1] / bars[k], largest_beta) for k in range(num_steps)]
        super().__init__(_products(betas))


class ZeroTerminalSNR(DiscreteSchedule):
    """Another schedule, shifted and stretched in √ᾱ so that nothing of the signal is left at step T.

        √ᾱ_k ← (√ᾱ_k − √ᾱ_T) √ᾱ_1 / (√ᾱ_1 − √ᾱ_T)

    Networks that predict ε tell nothing of the sample there: use `Velocity`, `Sample` or `EDM`.

    Source: Lin et al., "Common diffusion noise schedules and sample steps are flawed", WACV 2024, arXiv:2305.08891,
    algorithm 1. The 0 is 1e-10 here, so that logarithms exist.

    Args:
        schedule: the other one, of at least two steps.

    Raises:
        UserError: if it has a single step.
    """

    def __init__(self, schedule: DiscreteSchedule) -> None:
        check_at_least(self, 2, num_steps=schedule.num_steps)
        roots = [math.exp(value / 2) for value in schedule.table[1:]]
        stretch = roots[0] / (roots[0] - roots[-1])
        shifted = [(root - roots[-1]) * stretch for root in roots]
        super().__init__([2 * math.log(root) if root > 0 else _LEAST_LOG for root in shifted])


def _products(betas: Sequence[float]) -> list[float]:
    """Logarithms of Π_{j ≤ k} (1 − β_j) for each k."""
    total, found = 0.0, []
    for beta in betas:
        total += math.log1p(-beta)
        found.append(total)
    return found
