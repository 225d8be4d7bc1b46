"""Flow matching: a velocity that carries noise to data, learnt by regression.

Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023, arXiv:2210.02747. Noise x₀ ~ N(0, I) goes to a
sample x₁ on a path x_t = α_t x₁ + σ_t x₀. The mean velocity of all that pass a point carries N(0, I) to the data, and
it is what a network finds that is trained by squared errors (eqs. 9 and 14):

    min_v  E |v(x_t, t) − (α̇_t x₁ + σ̇_t x₀)|²,        dx/dt = v(x, t) from t = 0 to t = 1 for samples
"""

import math
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.autoencoding import AutoencodingModel
from lightning_gen.dequantisation import Dequantisation
from lightning_gen.dequantised import DequantisedDensity
from lightning_gen.errors import UserError
from lightning_gen.guidance import Guidance
from lightning_gen.held_out import HELD_OUT_SEED
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.time_dependent import TimeNetwork
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.path_model import PathModel
from lightning_gen.paths import (
    ConditionalOptimalTransport,
    Coupling,
    Independent,
    ProbabilityPath,
    TimeDistribution,
    UniformTimes,
)
from lightning_gen.precision import exact, full
from lightning_gen.samplers import Sampler
from lightning_gen.solvers import (
    Divergence,
    DormandPrince,
    ExactDivergence,
    ODESolver,
    described,
    differentiable,
    outside_inference,
    solve_with_log_det,
)
from lightning_gen.solvers.base import Counted, Velocity

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class FlowMatching(DequantisedDensity, PathModel, AutoencodingModel):
    """A velocity of points, vectors or images, that is followed from noise to samples, and back to their density.

    Latents, as `encode` gives them and `interpolate` goes between them, are the noise.

    Args:
        network: the velocity, of a sample and its time.
        optimizer: makes the optimiser.
        path: from noise to samples; straight unless set.
        coupling: which noise goes to which sample in training; any to any unless set.
        time_distribution: of the times of training; uniform unless set.
        sampler: follows the velocity to samples; `DormandPrince` unless set.
        dequantisation: of discrete data, so that probabilities are bounded and samples have the levels of the data;
            None for densities. One without parameters of its own: the regression does not bound log p.
        divergence: of the velocity, for log p; exact unless set, which takes a pass back for each entry of a sample.
        likelihood_solver: follows the velocity for log p; `DormandPrince` unless set.
        label_dropout: how often training ignores the condition of a sample, in [0, 1); guidance needs it.
        guidance: of samples towards their condition; None for none. log p is that of the model without it.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[network]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Attributes:
        evaluations: how often the velocity was evaluated for the last batch of samples, or of log p.

    Raises:
        UserError: if `label_dropout` is out of its range, or there is dropout or guidance without conditions; if the
            dequantisation is to be learnt.
    """

    sampler_kind: ClassVar[type[Sampler]] = ODESolver

    def __init__(
        self,
        network: TimeNetwork,
        optimizer: OptimizerCallable,
        path: ProbabilityPath | None = None,
        coupling: Coupling | None = None,
        time_distribution: TimeDistribution | None = None,
        sampler: ODESolver | None = None,
        dequantisation: Dequantisation | None = None,
        divergence: Divergence | None = None,
        likelihood_solver: ODESolver | None = None,
        label_dropout: float = 0.0,
        guidance: Guidance | None = None,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        options = {"optimizer": optimizer, "scheduler": scheduler, "compile": compile, "attributes": attributes}
        super().__init__(network, sampler or DormandPrince(), label_dropout, guidance, **options)
        if dequantisation is not None and any(True for _ in dequantisation.parameters()):
            raise UserError(
                f"model.init_args.dequantisation is {type(dequantisation).__name__}, which is learnt by a bound of log"
                " p, but flow matching minimises none: use UniformDequantisation"
            )
        self.path = path or ConditionalOptimalTransport()
        self.coupling = coupling or Independent()
        self.time_distribution = time_distribution or UniformTimes()
        self.dequantisation = dequantisation
        self.divergence = divergence or ExactDivergence()
        self.likelihood_solver = likelihood_solver or DormandPrince()
        self.evaluations: int | None = None

    # ---------------------------------------------------------------- training

    def field(self, x: Tensor, t: Tensor, y: Tensor | None, dropped: Tensor | None = None) -> Tensor:
        """The velocity v(x, t | y), (n, …)."""
        return full(self.network(x, t, y, dropped))

    def losses(self, x: Tensor, y: Tensor | None, u: Tensor, epsilon: Tensor, dropped: Tensor | None) -> Tensor:
        """|v(x_t, t) − dx_t/dt|² / D, (B,)."""
        t = self.path.end * self.time_distribution(u)
        x_t, velocity = self.path(epsilon, x, t)
        return (self.field(x_t, t, y, dropped) - velocity).square().flatten(1).mean(1)

    def noise_for(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B, …), coupled to samples (B, …)."""
        return self.coupling(torch.randn_like(x), x, y)

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The mean over samples, dequantised where they are discrete."""
        return super().loss(batch | {"x": self.values_of(full(batch["x"]), None)[0]})

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """The loss, unless noise is chosen for whole batches: then that of single samples is another one."""
        return () if self.coupling.looks_at_batch else super().held_out_names

    def held_out(self, batch: Batch) -> Terms:
        """(n,), of values, times and noise that depend on the place in the split alone."""
        noise = Noise(sample_seeds(HELD_OUT_SEED + 1, batch["index"]), self.device)  # times and noise take the other
        return super().held_out(batch | {"x": self.values_of(full(batch["x"]), noise)[0]})

    # ---------------------------------------------------------------- noise and samples

    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws from N(0, I), (n, …)."""
        dtype = next(self.network.parameters()).dtype
        return noise.normal(*self.sample_shape, dtype=dtype)

    def samples_of(self, z: Tensor, y: Tensor | None) -> Tensor:
        """Where noise (n, …) goes, with guidance where there is any."""
        return self.samples_of_values(self._follow(z, y, 0.0, self.path.end))

    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Where samples (n, …) come from, of discrete data the middles of their bins."""
        values = full(x) if self.dequantisation is None else self.dequantisation.middles(x)
        return self._follow(values, y, self.path.end, 0.0)

    def _follow(self, x: Tensor, y: Tensor | None, start: float, end: float) -> Tensor:
        velocity = Counted(self.guided(y))
        assert isinstance(self.sampler, ODESolver)
        found = self.sampler(velocity, x, start, end)
        self.evaluations = velocity.evaluations
        return found

    # ---------------------------------------------------------------- the density

    @property
    def estimates_density(self) -> bool:
        """Unless the divergence is exact."""
        return not self.divergence.exact

    def likelihood_protocol(self) -> dict[str, Any]:
        """With the solver and the divergence."""
        found = {"likelihood_solver": described(self.likelihood_solver), "divergence": described(self.divergence)}
        return super().likelihood_protocol() | found

    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | y), (B,) nats: log N(x₀; 0, I) − ∫ ∇·v dt; probes of a divergence from torch's global generator."""
        return self._log_density(x, y, None)

    def estimate_log_p(self, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """Log p(x | y), or an estimate of it whose mean it is, with probes from each sample's stream."""
        return self._log_density(x, y, noise)

    def _log_density(self, x: Tensor, y: Tensor | None, noise: Noise | None) -> Tensor:
        """In float64 but for the network; without gradients."""
        with ExitStack() as modes:
            for mode in (differentiable(), torch.no_grad(), exact(x)):
                modes.enter_context(mode)
            if self.compiled:  # what is compiled can be differentiated once
                modes.enter_context(torch.compiler.set_stance("force_eager"))
            values = x.to(torch.float32 if x.device.type == "mps" else torch.float64, copy=True)
            velocity = Counted(self._cast_field(None if y is None else outside_inference(y)))
            solver, divergence = self.likelihood_solver, self.divergence
            z, log_det = solve_with_log_det(solver, velocity, divergence, values, self.path.end, 0.0, noise)
            self.evaluations = velocity.evaluations
            return log_det - (z.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2

    def _cast_field(self, y: Tensor | None) -> Velocity:
        """The velocity without guidance, of x in any type."""
        dtype = next(self.network.parameters()).dtype
        return lambda x, t: self.field(x.to(dtype), t.to(dtype), y).to(x.dtype)

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """Shapes, classes and levels must be those of the data."""
        super().check_data(data)
        if self.dequantisation is not None:
            self.dequantisation.check(data.examples(256)["x"])
