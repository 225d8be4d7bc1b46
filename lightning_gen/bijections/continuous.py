"""Continuous flows: the solution of a differential equation."""

from collections.abc import Callable

from torch import Tensor

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.fields import MLPField, VectorField
from lightning_gen.precision import exact, full
from lightning_gen.solvers import (
    RK4,
    Divergence,
    ExactDivergence,
    ODESolver,
    described,
    differentiable,
    outside_inference,
    solve_with_log_det,
)


class ContinuousFlow(Bijection):
    """z = x(1) where x(0) = x and dx/dt = v(x, t; h) (Chen et al., NeurIPS 2018; Grathwohl et al., ICLR 2019).

        log |det ∂z/∂x| = ∫₀¹ ∇·v(x(t), t; h) dt    (FFJORD, eqs. 3 and 4)

    Gradients are those of the solver's steps, which are all kept, and not of the adjoint equation. The inverse goes the
    same way back: it is the inverse to the solver's error, which falls by 16 when `RK4` takes twice as many steps and
    is bounded by `DormandPrince`, with steps of its own for each sample. `TorchDiffEq` chooses one step for a batch.

    Steps that are too long need not be an error: training makes the best of the map that they are, whose determinant
    the sum of divergences then misses. Evaluation may take more of them, and tells. In training ∇·v may be estimated;
    in evaluation it is exact.

    Args:
        sample_shape: of x without the batch.
        num_features: length F of features h of a condition; None for none.
        field: makes v.
        solver: follows it; None for 20 steps of `RK4`.
        divergence: ∇·v in training; None for the exact one, `HutchinsonDivergence` where there are many entries.
        evaluation_solver: follows v in evaluation, and back to samples; None for that of training.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        field: Callable[[tuple[int, ...], int | None], VectorField] = MLPField,
        solver: ODESolver | None = None,
        divergence: Divergence | None = None,
        evaluation_solver: ODESolver | None = None,
    ) -> None:
        super().__init__(sample_shape, num_features)
        self.field = field(self.sample_shape, num_features)
        self.solver = solver or RK4(20)
        self.divergence = divergence or ExactDivergence()
        self.evaluation_solver = evaluation_solver or self.solver

    @property
    def approximation(self) -> str:
        """The solver of evaluation."""
        return described(self.evaluation_solver)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From t = 0 to 1."""
        return self._follow(x, h, 0.0, 1.0)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From t = 1 to 0."""
        return self._follow(z, h, 1.0, 0.0)

    def samples(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """From t = 1 to 0, without divergences."""
        with exact(z):
            return self._active_solver(self._velocity(h), full(z), 1.0, 0.0)

    def _follow(self, x: Tensor, h: Tensor | None, start: float, end: float) -> tuple[Tensor, Tensor]:
        divergence = self.divergence if self.training else ExactDivergence()
        with exact(x), differentiable():
            start_at, features = outside_inference(full(x)), None if h is None else outside_inference(full(h))
            return solve_with_log_det(self._active_solver, self._velocity(features), divergence, start_at, start, end)

    @property
    def _active_solver(self) -> ODESolver:
        return self.solver if self.training else self.evaluation_solver

    def _velocity(self, h: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        features = None if h is None else full(h)
        return lambda x, t: self.field(x, t, features)
