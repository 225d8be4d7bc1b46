"""The solvers of the package torchdiffeq (Chen, github.com/rtqichen/torchdiffeq), an extra."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.solvers.base import Norm, ODESolver, Velocity, root_mean_square

_STEPS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4}
"""Methods of equal steps, and how often each evaluates v in a step."""

_ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


class TorchDiffEq(ODESolver):
    """A method of torchdiffeq: `pip install 'lightning_gen[ode]'`.

    Its adaptive methods choose one step for the whole batch: a sample then agrees with the same sample in another batch
    to the tolerance only. `DormandPrince` chooses steps for each sample.

    Args:
        method: adaptive: dopri5, dopri8, bosh3, fehlberg2, adaptive_heun; of equal steps: euler, midpoint, heun2,
            heun3, rk4.
        rtol: as `DormandPrince`.
        atol: as `DormandPrince`.
        steps: of methods of equal steps their number, of the others the largest one, ≥ 1; 1000 unless given, and 25 of
            equal steps.

    Raises:
        UserError: if an argument is out of its range, or the package is not there; when solving, if the tolerance
            cannot be met.
    """

    def __init__(
        self, method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5, steps: int | None = None
    ) -> None:
        if method not in _STEPS and method not in _ADAPTIVE:
            raise UserError(f"TorchDiffEq.method is {method!r}: use any of {', '.join((*_ADAPTIVE, *_STEPS))}")
        try:
            import torchdiffeq  # noqa: F401
        except ImportError as error:
            raise UserError(
                "the solver TorchDiffEq needs the package torchdiffeq: pip install 'lightning_gen[ode]', or use"
                " DormandPrince, Midpoint or RK4"
            ) from error
        check_at_least(self, 0, rtol=rtol)
        check_above(self, 0, atol=atol)
        self.method, self.rtol, self.atol = method, rtol, atol
        self.steps = steps if steps is not None else 25 if method in _STEPS else 1000
        check_at_least(self, 1, steps=self.steps)

    @property
    def num_evaluations(self) -> int | None:
        """Known of equal steps."""
        return self.steps * _STEPS[self.method] if self.method in _STEPS else None

    def __call__(self, velocity: Velocity, x: Tensor, start: float, end: float, norm: Norm | None = None) -> Tensor:
        """As `ODESolver.__call__`; a norm is that of the sample where it is largest."""
        from torchdiffeq import odeint

        if not len(x):
            return x
        size, options = norm or root_mean_square, dict[str, Any]()
        if self.method in _STEPS:
            grid = torch.arange(self.steps + 1, device=x.device).to(x) / self.steps
            options = {"grid_constructor": lambda v, x, t: torch.lerp(t[0], t[-1], grid)}
        else:
            options = {"max_num_steps": self.steps, "norm": lambda error: size(error.view_as(x)).max()}
        times = torch.tensor([start, end], dtype=x.dtype, device=x.device)
        try:
            return odeint(
                lambda t, x: velocity(x, t.to(x).expand(len(x))),
                x,
                times,
                rtol=self.rtol,
                atol=self.atol,
                method=self.method,
                options=options,
            )[1]
        except AssertionError as error:  # of steps that are too many, too short or not finite
            reason = str(error).partition(":")[0]
            raise UserError(
                f"TorchDiffEq.rtol is {self.rtol:g} and atol {self.atol:g}, which {self.method} cannot meet within"
                f" steps = {self.steps} ({reason}): allow larger tolerances or more steps"
            ) from error
