"""Runge–Kutta steps that are as long as a tolerance lets them be, for each sample by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.solvers.base import Norm, ODESolver, Velocity, root_mean_square
from lightning_gen.solvers.runge_kutta import move

_MATRIX: Sequence[Sequence[float]] = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
"""Rows of the slopes 2 to 7; the last one is that of the step itself, so that slope 7 is slope 1 of the next step."""

_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
"""Weights of order 5 less those of order 4."""

_SAFETY, _SHRINK, _GROW = 0.9, 0.2, 10.0


class DormandPrince(ODESolver):
    """The pair of orders 5 and 4 of Dormand, Prince, J. Comput. Appl. Math. 6, 1980, known as "dopri5".

    A step is taken where the difference e of the two orders is tolerated,

        norm(e / (atol + rtol · max(|x|, |x′|))) ≤ 1,

    and tried again, shorter, where it is not; its length follows from e. Each sample has steps of its own, so that it
    does not depend on those beside it; a batch takes as many evaluations as its slowest sample, six a step.

    Args:
        rtol: tolerated error of a step as a share of x, ≥ 0.
        atol: tolerated error of a step where x is 0, > 0.
        max_steps: after how many steps, those tried in vain included, to give up, ≥ 1.

    Raises:
        UserError: if an argument is out of its range; when solving, if the tolerance cannot be met.
    """

    def __init__(self, rtol: float = 1e-5, atol: float = 1e-5, max_steps: int = 1000) -> None:
        check_at_least(self, 0, rtol=rtol)
        check_above(self, 0, atol=atol)
        check_at_least(self, 1, max_steps=max_steps)
        self.rtol, self.atol, self.max_steps = rtol, atol, max_steps

    @property
    def num_evaluations(self) -> None:
        """It depends on v."""
        return

    def __call__(self, velocity: Velocity, x: Tensor, start: float, end: float, norm: Norm | None = None) -> Tensor:
        """As `ODESolver.__call__`; the host waits for each step."""
        norm = norm or root_mean_square
        wide = x.dtype if x.device.type == "mps" else torch.float64
        t = torch.full((len(x),), start, dtype=wide, device=x.device)
        least = 16 * torch.finfo(x.dtype).eps * max(abs(start), abs(end))  # shorter steps would not be seen in t
        slope = velocity(x, t.to(x))
        h = self._first_step(velocity, x, t, slope, end - start, norm)
        for _ in range(self.max_steps):
            rest = end - t
            arrived, stuck = rest == 0, h.abs() < least
            if bool((arrived | stuck).all()):
                break
            last = h.abs() >= rest.abs()
            h = torch.where(last, rest, h)
            found, end_slope, ratio = self._step(velocity, x, t, h, slope, norm)
            good = (ratio <= 1) & ~arrived & ~stuck
            x, slope = _choose(good, found, x), _choose(good, end_slope, slope)
            t = torch.where(good, torch.where(last, end, t + h), t)
            grown = (_SAFETY * ratio.clamp(min=1e-10) ** -0.2).clamp(_SHRINK, _GROW)
            h = h * torch.where(good, grown, grown.clamp(max=1.0)).nan_to_num(_SHRINK)
        self._check(t, end)
        return x

    def _step(
        self, velocity: Velocity, x: Tensor, t: Tensor, h: Tensor, slope: Tensor, norm: Norm
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where steps of lengths h (n,) lead, the slope there, and the error in units of the tolerance, (n,)."""
        length, slopes, found = _beside(h, x), [slope], x
        for row in _MATRIX:
            found = move(x, length, row, slopes)
            slopes.append(velocity(found, (t + sum(row) * h).to(x)))
        error = move(torch.zeros_like(x), length, _ERROR, slopes)
        return found, slopes[-1], norm(error / self._tolerated(torch.maximum(x.abs(), found.abs()))).to(t)

    def _first_step(self, velocity: Velocity, x: Tensor, t: Tensor, slope: Tensor, whole: float, norm: Norm) -> Tensor:
        """Lengths (n,) with their sign (Hairer, Nørsett, Wanner, "Solving ODEs I", 1993, §II.4)."""
        sign, scale = (1.0 if whole > 0 else -1.0), self._tolerated(x.abs())
        size, speed = norm(x / scale).to(t), norm(slope / scale).to(t)
        trial = torch.where((size < 1e-5) | (speed < 1e-5), 1e-3 * abs(whole), 0.01 * size / speed).clamp(
            max=abs(whole)
        )
        moved = velocity(move(x, _beside(sign * trial, x), (1.0,), (slope,)), (t + sign * trial).to(x))
        bend = norm((moved - slope) / scale).to(t) / trial
        h = (0.01 / torch.maximum(speed, bend).clamp(min=1e-10)) ** 0.2
        return sign * torch.minimum(100 * trial, h).nan_to_num(abs(whole)).clamp(max=abs(whole))

    def _tolerated(self, size: Tensor) -> Tensor:
        return self.atol + self.rtol * size

    def _check(self, t: Tensor, end: float) -> None:
        """Refuse to give what has not arrived."""
        left = t != end
        if bool(left.any()):
            where = t[left][0].item()
            raise UserError(
                f"DormandPrince.rtol is {self.rtol:g} and atol {self.atol:g}: {int(left.sum())} of {len(t)} samples did"
                f" not arrive at t = {end:g} within max_steps = {self.max_steps} steps, one is at t = {where:.6g}:"
                " allow larger tolerances or more steps, or look for values that are not finite"
            )


def _beside(h: Tensor, x: Tensor) -> Tensor:
    """(n, 1, …), of as many dimensions as x (n, …), and of its type."""
    return h.to(x).view(-1, *[1] * (x.ndim - 1))


def _choose(good: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The rows of `a` where good (n,), else those of `b`."""
    return torch.where(good.view(-1, *[1] * (a.ndim - 1)), a, b)
