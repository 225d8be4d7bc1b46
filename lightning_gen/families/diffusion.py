"""Diffusion models (Sohl-Dickstein et al., ICML 2015; Ho, Jain, Abbeel, NeurIPS 2020; Karras et al., NeurIPS 2022).

Samples are made noisy, x_t = α(t) x + σ(t) ε, and a network F learns to denoise them:

    D(x_t; t) = c_skip x_t + c_out F(c_in x_t, t)  ≈  E[x | x_t]
    L = E_{t, x, ε}[w(t) · mean (F − target)²]

A sampler follows D from noise to samples. Schedule (α, σ), preconditioning (c and target), loss (t and w), sampler and
network are choices of their own; DDPM and EDM are recipes.
"""

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.guidance import Guidance
from lightning_gen.latents import slerp
from lightning_gen.losses.denoising import DenoisingLoss
from lightning_gen.model import evaluating
from lightning_gen.networks.time_dependent import TimeNetwork
from lightning_gen.noise import Noise
from lightning_gen.path_model import PathModel
from lightning_gen.precision import full
from lightning_gen.preconditioning import Preconditioning
from lightning_gen.samplers import Sampler
from lightning_gen.samplers.diffusion import DiffusionSampler
from lightning_gen.samplers.diffusion.base import level
from lightning_gen.schedules import NoiseSchedule

_NO_SIGNAL = 1e-6
"""α below which a network's ε tells nothing of the sample."""


class Diffusion(PathModel):
    """A denoiser of samples of any shape: points, vectors, images.

    Args:
        network: of a noisy sample and its time.
        schedule: how noisy samples are at each time.
        preconditioning: what the network's output means.
        loss: at which times the network is trained, and how much its errors count there.
        sampler: how samples are drawn; another one may be given for every drawing, without training again.
        optimizer: makes the optimiser from the network's parameters.
        label_dropout: how often training ignores the condition of a sample, in [0, 1); guidance needs it.
        guidance: of samples towards their condition; None for none.
        attributes: names of the attributes that samples are conditioned on, as many as the network's `num_classes`.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`: `[network]`.

    Raises:
        UserError: see `PathModel`; if the sampler needs more steps than the schedule has; if the network is to predict
            noise where nothing else is left.
    """

    sampler_kind = DiffusionSampler
    sampler: DiffusionSampler

    def __init__(
        self,
        network: TimeNetwork,
        schedule: NoiseSchedule,
        preconditioning: Preconditioning,
        loss: DenoisingLoss,
        sampler: DiffusionSampler,
        optimizer: OptimizerCallable,
        label_dropout: float = 0.0,
        guidance: Guidance | None = None,
        attributes: list[str] | None = None,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
    ) -> None:
        super().__init__(
            network,
            sampler,
            label_dropout,
            guidance,
            optimizer=optimizer,
            scheduler=scheduler,
            attributes=attributes,
            compile=compile,
        )
        if preconditioning.needs_signal and level(schedule, schedule.last).alpha < _NO_SIGNAL:
            raise UserError(
                f"model.init_args.preconditioning is {type(preconditioning).__name__}, but {type(schedule).__name__}"
                " leaves no signal at its end, where noise tells nothing of the sample: use Velocity, Sample or EDM"
            )
        self.schedule = schedule
        self.preconditioning = preconditioning
        self.denoising_loss = loss
        self.check_sampler(sampler)

    # ---------------------------------------------------------------- training

    def losses(self, x: Tensor, y: Tensor | None, u: Tensor, epsilon: Tensor, dropped: Tensor | None) -> Tensor:
        """w(t) · mean (F − target)² of each sample, (B,)."""
        t = self.denoising_loss.times(u, self.schedule)
        alpha, sigma = (like(x, value) for value in self.schedule(t))
        scales = self.preconditioning(alpha, sigma)
        noisy = alpha * x + sigma * epsilon
        output = full(self.network(scales.inside * noisy, self.schedule.label(t), y, dropped))
        target = self.preconditioning.target(x, epsilon, alpha, sigma)
        return self.denoising_loss(output, target, (alpha / sigma).square().view(-1), scales.out.view(-1))

    # ---------------------------------------------------------------- sampling

    def check_sampler(self, sampler: Sampler) -> None:
        """The schedule must have the steps that the sampler asks for."""
        assert isinstance(sampler, DiffusionSampler)
        sampler.check(self.schedule)

    def field(self, x: Tensor, t: Tensor, y: Tensor | None, dropped: Tensor | None = None) -> Tensor:
        """D(x; t | y), the denoised sample: (n, …) of (n, …) noisy samples and (n,) times."""
        scales = self.preconditioning(*(like(x, value) for value in self.schedule(t)))
        output = full(self.network(scales.inside * x, self.schedule.label(t), y, dropped))
        return scales.skip * x + scales.out * output

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Samples at the end of the way from N(0, σ² I)."""
        return self.sampler(self.guided(y), self.schedule, self.latents(noise), noise)

    def latents(self, noise: Noise) -> Tensor:
        """(n, …) from N(0, I), in the dtype of the network's weights."""
        return noise.normal(*self.sample_shape, dtype=full(next(self.network.parameters())).dtype)

    @torch.no_grad()
    def interpolate(self, seeds_a: Tensor, seeds_b: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples from the noise between that of two; see `lightning_gen.abilities.Interpolates`.

        The noise that a stochastic sampler adds on the way is that of `seeds_a`: then t = 1 is not the sample of
        `seeds_b`, though it starts from the same noise, as it is with a deterministic sampler.
        """
        a, b = Noise(seeds_a, self.device), Noise(seeds_b, self.device)
        y = self.condition.draw(a, y)
        self.condition.draw(b, None)  # not used, but drawn before the noise, as in `sample`
        start, end = self.latents(a), self.latents(b)
        z = slerp(start.flatten(1), end.flatten(1), t).view_as(start)
        with evaluating(self):
            return self.sampler(self.guided(y), self.schedule, z, a)


def like(x: Tensor, values: Tensor) -> Tensor:
    """(n,) values in a shape that broadcasts with x (n, …)."""
    return values.view(-1, *[1] * (x.ndim - 1))
