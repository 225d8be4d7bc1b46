"""`TwoPlayerModel`: a generator of samples from latents and a discriminator, trained in turn."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_gen.adversarial import AdversarialModel, frozen
from lightning_gen.errors import UserError
from lightning_gen.latents import slerp
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.base import Discriminator, Generator, Judgement, judgement
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.optimizers import make_optimizers
from lightning_gen.precision import full
from lightning_gen.samplers import Gaussian, LatentSampler, Sampler

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class TwoPlayerModel(AdversarialModel, ABC):
    """What families share that play a generator G of latents z ~ N(0, I) against a discriminator D.

    One step is one update of the generator, after `num_critic_steps` updates of the discriminator; it consumes
    `num_critic_steps × accumulate_grad_batches` batches of data. A family writes the two losses.

    Args:
        generator: latents to samples.
        discriminator: samples to scores.
        optimizers: make the generator's and the discriminator's optimiser from their parameters.
        schedulers: make their learning rate schedules, stepped once a step; None for a constant rate.
        channels_last: keep the weights of convolutions channels last.
        sampler: draws the latents when the trained model is sampled.
        **kwargs: of `AdversarialModel`.

    Raises:
        UserError: if a count is below 1.
    """

    sampler_kind: ClassVar[type[Sampler]] = LatentSampler

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        optimizers: tuple[Callable[..., Optimizer], Callable[..., Optimizer]],
        schedulers: tuple[Callable[..., Any] | None, Callable[..., Any] | None],
        channels_last: bool,
        sampler: LatentSampler | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=generator.num_classes, **kwargs)
        self.generator = generator
        self.discriminator = discriminator
        self.optimizer_factories = optimizers
        self.scheduler_factories = schedulers
        self.sampler: LatentSampler = sampler or Gaussian()
        self._lazy_terms: Terms = {}
        if channels_last:
            self.to(memory_format=torch.channels_last)

    # ---------------------------------------------------------------- the step

    @abstractmethod
    def discriminator_loss(self, batch: Batch, update: int) -> tuple[Tensor, Terms]:
        """The discriminator's loss of one batch, and its terms.

        Args:
            batch: `x` (B, …) real samples, and `y` when conditional.
            update: number of discriminator updates before this one; decides which lazy terms are due.
        """

    @abstractmethod
    def generator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The generator's loss on fresh latents, as many as `batch` has rows and of its classes, and its terms."""

    def after_discriminator_update(self, update: int) -> None:
        """What follows update number `update` of the discriminator, when processes have averaged their buffers."""

    def after_generator_update(self) -> None:
        """What follows the update of the generator, likewise."""

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """`num_critic_steps` updates of the discriminator, then one of the generator."""
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        updates, logs = self.split_step(batch), self.logs_this_step
        terms: Terms = {}
        for update, batches in enumerate(updates, start=self.global_step * self.num_critic_steps):
            terms |= self.backward_mean(
                discriminator_optimizer, batches, partial(self.discriminator_loss, update=update)
            )
            self.step_uncounted(discriminator_optimizer)
            self.after_discriminator_update(update)
        with frozen(self.discriminator):
            terms |= self.backward_mean(generator_optimizer, updates[-1], self.generator_loss)
        self.step_counted(generator_optimizer)
        self.after_generator_update()
        self._lazy_terms |= {name: terms[name] for name in self.lazy_names if name in terms}
        if logs:  # a lazy term may never fall on a logged step: its last value stands for it
            self.log_dict(terms | self._lazy_terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    @property
    def sized_parts(self) -> tuple[str, ...]:
        """The generator's and the discriminator's."""
        return ("generator", "discriminator")

    @property
    def lazy_names(self) -> list[str]:
        """Names of terms that not every update has."""
        return []

    def configure_optimizers(self) -> Any:
        """The generator's optimiser and schedule, then the discriminator's."""
        networks = (self.generator, self.discriminator)
        return make_optimizers(*zip(networks, self.optimizer_factories, self.scheduler_factories, strict=True))

    # ---------------------------------------------------------------- held-out data

    def held_out_rows(self, batch: Batch) -> int:
        """Whole packs."""
        return len(batch["x"]) // self.discriminator.packing * self.discriminator.packing

    # ---------------------------------------------------------------- the sampler

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """G(z) for z drawn from each sample's own stream."""
        z = self._drawn(noise, y)
        with self.sampler.applied(self.generator):
            return self.generator(z, y)

    @torch.no_grad()
    def interpolate(self, seeds_a: Tensor, seeds_b: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """G(slerp(z_a, z_b; t)); see `lightning_gen.abilities.Interpolates`."""
        a, b = Noise(seeds_a, self.device), Noise(seeds_b, self.device)
        y = self.condition.draw(a, y)
        self.condition.draw(b, y)  # not used, but drawn before the latent, as in `sample`
        with evaluating(self), self.sampler.applied(self.generator):
            return self.generator(slerp(self._drawn(a, y), self._drawn(b, y), t), y)

    @torch.no_grad()
    def standing_statistics(self, num_batches: int, batch_size: int = 64, seed: int = 0) -> None:
        """Replace the generator's running means and variances by those over freshly drawn samples.

        They belong to the weights as they are, averaged ones too (Brock et al., ICLR 2019, §C.1).

        Args:
            num_batches: ≥ 1; statistics are the plain mean over them.
            batch_size: samples in each, ≥ 1.
            seed: names the set of samples.

        Raises:
            UserError: if the generator has no batch norm.
        """
        norms = [m for m in self.generator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if not norms:
            raise UserError("standing statistics were asked for, but the generator has no batch norm: leave them out")
        momenta = [norm.momentum for norm in norms]
        with evaluating(self):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a cumulative mean
                norm.train()
            for index in torch.arange(num_batches * batch_size).split(batch_size):
                noise = Noise(sample_seeds(seed, index), self.device)
                y = self.condition.draw(noise, None)
                self.generator(Gaussian()(noise, y, self.generator, self.discriminator), y)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    def check_sampler(self, sampler: Sampler) -> None:
        """Samplers look at the networks themselves, whenever they draw."""

    # ---------------------------------------------------------------- parts

    def _drawn(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Latents for sampling, one a stream."""
        return self.sampler(noise, y, self.generator, self.discriminator)

    def _latents(self, real: Tensor) -> Tensor:
        """Latents for training, one a row of `real`, from torch's global generator (seeded by step and rank)."""
        return torch.randn(len(real), self.generator.latent_dim, device=real.device, dtype=self.dtype)  # type: ignore[arg-type]

    def _judge(self, x: Tensor, y: Tensor | None) -> Judgement:
        """What the discriminator says, in full precision."""
        found = judgement(self.discriminator(x, y))
        return Judgement._make(None if part is None else full(part) for part in found)

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """Float32 and, as a compiled graph cannot be differentiated twice, eager."""
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            if self.compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """Let the discriminator score samples of the data's shape, too."""
        super().check_data(data)
        m = self.discriminator.packing
        if data.batch_size % m:
            raise UserError(
                f"data.init_args.batch_size is {data.batch_size} but the discriminator judges {m} samples at once:"
                f" make it a multiple of {m}"
            )
        self.check_judgement(self._judged_blank(tuple(data.sample_shape)), data)

    def check_judgement(self, judged: Judgement, data: "DataModule") -> None:
        """Raise `UserError` if what the discriminator says of two samples is not enough. Families extend it."""

    @torch.no_grad()
    def _judged_blank(self, sample_shape: tuple[int, ...]) -> Judgement:
        """What the discriminator says of blank samples, or a `UserError` that says why it cannot."""
        rows = 2 * self.discriminator.packing
        x = torch.zeros(rows, *sample_shape, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        y = self.condition.blank(rows, self.device)
        where = "model.init_args.discriminator"
        try:
            with evaluating(self.discriminator):
                found = judgement(self.discriminator(x, y))
        except RuntimeError as error:
            raise UserError(
                f"{where} cannot read data's samples of shape {sample_shape}: make {where}.init_args.image_size and"
                f" channels agree with those of data.init_args ({error})"
            ) from error
        if found.scores.shape != (2,):
            raise UserError(
                f"{where} turns {rows} samples of data's shape {sample_shape} into scores of shape"
                f" {tuple(found.scores.shape)} instead of (2,): make {where}.init_args.image_size agree with"
                " data.init_args.image_size"
            )
        return found
