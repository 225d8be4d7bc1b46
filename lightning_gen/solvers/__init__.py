"""How x is followed along dx/dt = v(x, t), and what that does to a density."""

from lightning_gen.solvers.base import ODESolver, described
from lightning_gen.solvers.divergences import (
    Divergence,
    ExactDivergence,
    HutchinsonDivergence,
    differentiable,
    outside_inference,
)
from lightning_gen.solvers.dormand_prince import DormandPrince
from lightning_gen.solvers.log_det import solve_with_log_det
from lightning_gen.solvers.runge_kutta import RK4, Euler, Heun, Midpoint, RungeKutta
from lightning_gen.solvers.torch_diffeq import TorchDiffEq

__all__ = [
    "RK4",
    "Divergence",
    "DormandPrince",
    "Euler",
    "ExactDivergence",
    "Heun",
    "HutchinsonDivergence",
    "Midpoint",
    "ODESolver",
    "RungeKutta",
    "TorchDiffEq",
    "described",
    "differentiable",
    "outside_inference",
    "solve_with_log_det",
]
