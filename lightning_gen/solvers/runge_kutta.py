"""Explicit Runge–Kutta methods of equal steps (Hairer, Nørsett, Wanner, "Solving ODEs I", 1993, §II.1)."""

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.solvers.base import Norm, ODESolver, Velocity


class RungeKutta(ODESolver, ABC):
    """A step of length h evaluates slopes k_i = v(x + h Σ_j a_ij k_j, t + c_i h) and goes to x + h Σ_i b_i k_i.

    Args:
        steps: their number, ≥ 1.

    Raises:
        UserError: if there is no step.
    """

    matrix: ClassVar[Sequence[Sequence[float]]]
    """a: a row for each slope, of as many entries as there are slopes before it."""

    weights: ClassVar[Sequence[float]]
    """b; as c_i = Σ_j a_ij, the nodes need not be told."""

    def __init__(self, steps: int) -> None:
        check_at_least(self, 1, steps=steps)
        self.steps = steps

    @property
    def num_evaluations(self) -> int:
        """One a slope."""
        return self.steps * len(self.weights)

    def __call__(self, velocity: Velocity, x: Tensor, start: float, end: float, norm: Norm | None = None) -> Tensor:
        """As `ODESolver.__call__`; errors are not looked at, so that numbers may become infinite."""
        h = (end - start) / self.steps
        for step in range(self.steps):
            time, slopes = start + step * h, list[Tensor]()
            for row in self.matrix:
                t = x.new_full((len(x),), time + sum(row) * h)
                slopes.append(velocity(move(x, h, row, slopes), t))
            x = move(x, h, self.weights, slopes)
        return x


def move(x: Tensor, h: float | Tensor, weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """Return x + h Σ_i w_i k_i, for slopes k_i of the shape of x."""
    for weight, slope in zip(weights, slopes, strict=True):
        if weight:
            x = x + (h * weight) * slope
    return x


class Euler(RungeKutta):
    """x + h v(x, t): order 1, one evaluation a step.

    Args:
        steps: their number, ≥ 1.
    """

    matrix = ((),)
    weights = (1.0,)

    def __init__(self, steps: int = 100) -> None:
        super().__init__(steps)


class Midpoint(RungeKutta):
    """The slope half a step of Euler's further: order 2, two evaluations a step.

    Args:
        steps: their number, ≥ 1.
    """

    matrix = ((), (0.5,))
    weights = (0.0, 1.0)

    def __init__(self, steps: int = 50) -> None:
        super().__init__(steps)


class Heun(RungeKutta):
    """The mean of the slopes at both ends of a step of Euler's: order 2, two evaluations a step.

    Args:
        steps: their number, ≥ 1.
    """

    matrix = ((), (1.0,))
    weights = (0.5, 0.5)

    def __init__(self, steps: int = 50) -> None:
        super().__init__(steps)


class RK4(RungeKutta):
    """The classical method: order 4, four evaluations a step.

    Args:
        steps: their number, ≥ 1.
    """

    matrix = ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0))
    weights = (1 / 6, 1 / 3, 1 / 3, 1 / 6)

    def __init__(self, steps: int = 25) -> None:
        super().__init__(steps)
