"""Generative adversarial networks (Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014).

A generator G maps latents z ~ N(0, I) to samples; a discriminator D scores samples. Each minimises its own loss:

    L_D = loss.discriminator(D(x), D(G(z))) + Σ penalties        L_G = loss.generator(D(G(z)))

A recipe is a choice of networks, loss, penalties and schedules; a variant that changes the step overrides one method.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.adversarial import AdversarialModel, Terms, frozen, full_precision, make_optimizers
from lightning_gen.errors import UserError
from lightning_gen.latents import slerp
from lightning_gen.losses.adversarial import AdversarialLoss
from lightning_gen.losses.penalties import Penalty
from lightning_gen.model import Batch, evaluating
from lightning_gen.networks.base import Discriminator, Generator
from lightning_gen.noise import Noise

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class GAN(AdversarialModel):
    """A generator and a discriminator trained in turn, by manual optimisation.

    One step is one update of the generator, after `num_critic_steps` updates of the discriminator; it consumes
    `num_critic_steps × accumulate_grad_batches` batches of data.

    Args:
        generator: latents to samples; conditional when its `num_classes` is set.
        discriminator: samples to scores; conditional on the same classes.
        loss: the pair of losses.
        generator_optimizer: makes the generator's optimiser from its parameters.
        discriminator_optimizer: makes the discriminator's optimiser from its parameters.
        penalties: terms added to the discriminator's loss.
        generator_scheduler: makes the generator's learning rate schedule, stepped once a step; None for a constant.
        discriminator_scheduler: the same for the discriminator, stepped once a step too.
        num_critic_steps: updates of the discriminator for each of the generator, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update of either network, ≥ 1.
        gradient_clip_val: largest norm of either network's gradient; None to leave it.
        channels_last: keep the weights of convolutions channels last, which makes them faster on CPUs, and on GPUs in
            bf16; samples change by rounding.
        compile: submodules to hand to `torch.compile`: any of `generator`, `discriminator`.

    Raises:
        UserError: if the two networks are conditioned on different classes, or a count is below 1.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        penalties: list[Penalty] | None = None,
        generator_scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        num_critic_steps: int = 1,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        channels_last: bool = False,
        compile: list[str] | None = None,
    ) -> None:
        super().__init__(generator.num_classes, num_critic_steps, accumulate_grad_batches, gradient_clip_val, compile)
        if discriminator.num_classes != generator.num_classes:
            raise UserError(
                f"model.init_args.generator.init_args.num_classes is {generator.num_classes} but the discriminator's"
                f" is {discriminator.num_classes}: give both the same"
            )
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.penalties = penalties or []
        self._penalty_terms: Terms = {}
        self.optimizer_factories = (generator_optimizer, discriminator_optimizer)
        self.scheduler_factories = (generator_scheduler, discriminator_scheduler)
        if channels_last:
            self.to(memory_format=torch.channels_last)

    # ---------------------------------------------------------------- the two losses

    def discriminator_loss(self, batch: Batch, update: int) -> tuple[Tensor, Terms]:
        """L_D of one batch.

        Args:
            batch: `x` (B, …) real samples, and `y` (B,) when conditional.
            update: number of discriminator updates before this one; decides which lazy penalties are due.

        Returns:
            The loss, and its terms.
        """
        real, y = batch["x"], self._condition(batch)
        with torch.no_grad():
            fake = self.generator(self._latents(real), y)
        real_scores, fake_scores = self._scores(real, y), self._scores(fake, y)
        total = self.loss.discriminator(real_scores, fake_scores)
        terms = {"d_loss": total}
        if self.logs_this_step:
            terms |= {"d_real": real_scores.mean(), "d_fake": fake_scores.mean()}
        for penalty in self.penalties:
            if update % penalty.interval == 0:
                with self._full_precision():
                    terms[penalty.name] = penalty(self.discriminator, full_precision(real), full_precision(fake), y)
                total = total + penalty.interval * terms[penalty.name]
        return total, terms

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_G on fresh latents, as many as `batch` has rows and with its classes; the loss, and its terms."""
        y = self._condition(batch)
        loss = self.loss.generator(self._scores(self.generator(self._latents(batch["x"]), y), y))
        return loss, {"g_loss": loss}

    # ---------------------------------------------------------------- the step

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """`num_critic_steps` updates of the discriminator, then one of the generator."""
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        updates, logs = self.split_step(batch), self.logs_this_step
        terms: Terms = {}
        for k, batches in enumerate(updates):
            loss = partial(self.discriminator_loss, update=self.global_step * self.num_critic_steps + k)
            terms |= self.backward_mean(discriminator_optimizer, batches, loss)
            self.step_uncounted(discriminator_optimizer)
        with frozen(self.discriminator):
            terms |= self.backward_mean(generator_optimizer, updates[-1], self.generator_loss)
        self.step_counted(generator_optimizer)
        self._penalty_terms |= {
            penalty.name: terms[penalty.name] for penalty in self.penalties if penalty.name in terms
        }
        if logs:  # a lazy penalty may never fall on a logged step: its last value stands for it
            self.log_dict(terms | self._penalty_terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    def configure_optimizers(self) -> Any:
        """The generator's optimiser and schedule, then the discriminator's."""
        networks = (self.generator, self.discriminator)
        return make_optimizers(*zip(networks, self.optimizer_factories, self.scheduler_factories, strict=True))

    # ---------------------------------------------------------------- the sampler

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """G(z) for z drawn from each sample's own stream."""
        return self.generator(self._drawn(noise), y)

    @torch.no_grad()
    def interpolate(self, seeds_a: Tensor, seeds_b: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """G(slerp(z_a, z_b; t)); see `lightning_gen.model.Interpolates`."""
        a, b = Noise(seeds_a, self.device), Noise(seeds_b, self.device)
        y = self._classes(a, y)
        self._classes(b, y)  # not used, but drawn before the latent, as in `sample`
        with evaluating(self):
            return self.generator(slerp(self._drawn(a), self._drawn(b), t), y)

    # ---------------------------------------------------------------- held-out data

    def on_validation_epoch_start(self) -> None:
        """Start the mean of the discriminator's score on held-out samples."""
        self._held_out = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score held-out samples: an overfitted discriminator takes them for generated (ADA, NeurIPS 2020, eq. 1)."""
        if "x" in batch and len(batch["x"]):  # a process may have no rows
            scores = self._scores(batch["x"], self._condition(batch))
            self._held_out += torch.stack((scores.sum(), torch.ones_like(scores).sum()))

    def on_validation_epoch_end(self) -> None:
        """Log the mean score over all processes as `d_held_out`."""
        total, count = self.trainer.strategy.reduce(self._held_out, reduce_op="sum").tolist()
        if count:
            self.log("d_held_out", total / count)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    # ---------------------------------------------------------------- parts

    def _condition(self, batch: Batch) -> Tensor | None:
        return batch["y"] if self.num_classes else None

    def _drawn(self, noise: Noise) -> Tensor:
        """Latents for sampling, one a stream."""
        return noise.normal(self.generator.latent_dim, dtype=self.dtype)  # type: ignore[arg-type]

    def _latents(self, real: Tensor) -> Tensor:
        """Latents for training, one a row of `real`, from torch's global generator (seeded by step and rank)."""
        return torch.randn(len(real), self.generator.latent_dim, device=real.device, dtype=self.dtype)  # type: ignore[arg-type]

    def _scores(self, x: Tensor, y: Tensor | None) -> Tensor:
        return full_precision(self.discriminator(x, y))

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """Float32 and, as a compiled graph cannot be differentiated twice, eager."""
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            if "discriminator" in self.compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    @torch.no_grad()
    def check_data(self, data: "DataModule") -> None:
        """Let the discriminator score two samples, too."""
        super().check_data(data)
        x = torch.zeros(2, *data.sample_shape, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        y = torch.zeros(2, dtype=torch.int64, device=self.device) if self.num_classes else None
        where = "model.init_args.discriminator"
        try:
            with evaluating(self.discriminator):
                shape = tuple(self.discriminator(x, y).shape)
        except RuntimeError as error:
            raise UserError(
                f"{where} cannot read data's samples of shape {tuple(data.sample_shape)}: make"
                f" {where}.init_args.image_size and channels agree with those of data.init_args ({error})"
            ) from error
        if shape != (2,):
            raise UserError(
                f"{where} turns 2 samples of data's shape {tuple(data.sample_shape)} into scores of shape {shape}"
                f" instead of (2,): make {where}.init_args.image_size agree with data.init_args.image_size"
            )
