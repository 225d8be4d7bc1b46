"""Generative adversarial networks (Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014).

A generator G maps latents z ~ N(0, I) to samples; a discriminator D scores samples. Each minimises its own loss:

    L_D = loss.discriminator(D(x), D(G(z))) + Σ penalties        L_G = loss.generator(D(G(z)))

A recipe is a choice of networks, loss, penalties and schedules; a variant that changes the step overrides one method.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from lightning_gen.errors import UserError
from lightning_gen.losses.adversarial import AdversarialLoss
from lightning_gen.losses.penalties import Penalty
from lightning_gen.model import Batch, GenerativeModel
from lightning_gen.networks.base import Discriminator, Generator
from lightning_gen.noise import Noise, sample_seeds

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

Terms = dict[str, Tensor]


class GAN(GenerativeModel):
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
        generator_scheduler: makes the generator's learning rate schedule, stepped once a step; None for a constant rate.
        discriminator_scheduler: the same for the discriminator, stepped once a step too.
        num_critic_steps: updates of the discriminator for each of the generator, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update of either network, ≥ 1.
        gradient_clip_val: largest norm of either network's gradient; None to leave it.
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
        compile: list[str] | None = None,
    ) -> None:
        super().__init__(generator.num_classes, compile)
        self.automatic_optimization = False
        self.generator = generator
        self.discriminator = discriminator
        self.loss = loss
        self.penalties = penalties or []
        self.optimizer_factories = (generator_optimizer, discriminator_optimizer)
        self.scheduler_factories = (generator_scheduler, discriminator_scheduler)
        self.num_critic_steps = num_critic_steps
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        self._check_arguments()

    @property
    def batches_per_step(self) -> int:
        """Batches of data that one step consumes."""
        return self.num_critic_steps * self.accumulate_grad_batches

    # ---------------------------------------------------------------- the two losses

    def discriminator_loss(self, batch: Batch, update: int) -> tuple[Tensor, Terms]:
        """L_D of one batch.

        Args:
            batch: `x` (B, …) real samples, and `y` (B,) when conditional.
            update: number of discriminator updates before this one; decides which lazy penalties are due.

        Returns:
            The loss, and the terms to log.
        """
        real, y = batch["x"], batch.get("y") if self.num_classes else None
        with torch.no_grad():
            fake = self.generator(self._latents(real), y)
        real_scores, fake_scores = self._scores(real, y), self._scores(fake, y)
        total = self.loss.discriminator(real_scores, fake_scores)
        terms = {"d_loss": total, "d_real": real_scores.mean(), "d_fake": fake_scores.mean()}
        for penalty in self.penalties:
            if update % penalty.interval == 0:
                with self._full_precision():
                    term = penalty(self.discriminator, _full(real), _full(fake), y)
                total = total + penalty.interval * term
                terms[penalty.name] = term
        return total, _detached(terms)

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_G on fresh latents, as many as `batch` has rows and with its classes."""
        y = batch.get("y") if self.num_classes else None
        fake = self.generator(self._latents(batch["x"]), y)
        loss = self.loss.generator(self._scores(fake, y))
        return loss, _detached({"g_loss": loss})

    # ---------------------------------------------------------------- the step

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """`num_critic_steps` updates of the discriminator, then one of the generator."""
        generator_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[misc]
        updates = self._split(batch)
        terms: Terms = {}
        for k, parts in enumerate(updates):
            update = self.global_step * self.num_critic_steps + k
            terms |= self._accumulate(
                discriminator_optimizer, [lambda b=b: self.discriminator_loss(b, update) for b in parts]
            )
            # past the wrapper that counts: only the generator's update is a step
            self.trainer.strategy.optimizer_step(discriminator_optimizer.optimizer, _nothing)
        with _frozen(self.discriminator):
            terms |= self._accumulate(generator_optimizer, [lambda b=b: self.generator_loss(b) for b in updates[-1]])
        generator_optimizer.step()
        for scheduler in self._schedulers():
            scheduler.step()
        if self.global_step % self.trainer.log_every_n_steps == 0:
            self.log_dict(terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    def _split(self, batch: Batch) -> list[list[Batch]]:
        """The step's rows as one list for each update of the discriminator, of one batch for each accumulation."""
        rows, parts = len(batch["x"]), self.batches_per_step
        if rows % parts:
            raise UserError(
                f"a step's batch has {rows} rows, which {self.num_critic_steps} critic steps ×"
                f" {self.accumulate_grad_batches} accumulated batches cannot share equally: make it a multiple of {parts}"
            )
        size = rows // parts
        batches = [{key: value[k * size : (k + 1) * size] for key, value in batch.items()} for k in range(parts)]
        a = self.accumulate_grad_batches
        return [batches[k : k + a] for k in range(0, parts, a)]

    def _accumulate(self, optimizer, losses) -> Terms:  # type: ignore[no-untyped-def]
        """Leave the mean gradient of `losses` in the optimiser's parameters; return the mean of their terms."""
        optimizer.zero_grad()
        mean: Terms = {}
        for evaluate in losses:
            loss, terms = evaluate()
            self.manual_backward(loss / len(losses))
            mean = {key: mean.get(key, 0) + value / len(losses) for key, value in terms.items()}
        return mean

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip by hand: here gradients are averaged over batches and processes, and not yet applied."""
        if self.gradient_clip_val is not None:
            clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.gradient_clip_val)

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        """The generator's optimiser and schedule, then the discriminator's."""
        networks = (self.generator, self.discriminator)
        optimizers = [make(n.parameters()) for make, n in zip(self.optimizer_factories, networks, strict=True)]
        pairs = zip(self.scheduler_factories, optimizers, strict=True)
        return optimizers, [make(optimizer) for make, optimizer in pairs if make is not None]

    def _schedulers(self) -> list:
        schedulers = self.lr_schedulers() or []
        return schedulers if isinstance(schedulers, list) else [schedulers]

    # ---------------------------------------------------------------- the sampler

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """G(z) for z drawn from each sample's own stream."""
        return self.generator(noise.normal(self.generator.latent_dim, dtype=_dtype(self.generator)), y)

    # ---------------------------------------------------------------- held-out data

    def on_validation_epoch_start(self) -> None:
        """Start the mean of the discriminator's score on held-out samples."""
        self._held_out = torch.zeros(2, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score held-out samples: a discriminator that overfits scores them as generated (Karras et al., 2020, §3)."""
        if "x" in batch and len(batch["x"]):
            scores = self._scores(batch["x"], batch.get("y") if self.num_classes else None)
            self._held_out += torch.stack((scores.sum(), torch.ones_like(scores).sum()))

    def on_validation_epoch_end(self) -> None:
        """Log the mean score over all processes as `d_held_out`."""
        total, count = self.trainer.strategy.reduce(self._held_out, reduce_op="sum").tolist()
        if count:
            self.log("d_held_out", total / count, rank_zero_only=True)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    # ---------------------------------------------------------------- parts

    def _latents(self, real: Tensor) -> Tensor:
        """Latents for training, one a row of `real`, from torch's global generator (seeded by step and rank)."""
        return torch.randn(len(real), self.generator.latent_dim, device=real.device, dtype=_dtype(self.generator))

    def _scores(self, x: Tensor, y: Tensor | None) -> Tensor:
        return _full(self.discriminator(x, y))

    @contextmanager
    def _full_precision(self) -> Iterator[None]:
        """Float32 and, as a compiled graph cannot be differentiated twice, eager."""
        with ExitStack() as stack:
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            if "discriminator" in self.compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    # ---------------------------------------------------------------- checks

    def _check_arguments(self) -> None:
        if self.generator.num_classes != self.discriminator.num_classes:
            raise UserError(
                f"model.init_args.generator.init_args.num_classes is {self.generator.num_classes} but"
                f" model.init_args.discriminator.init_args.num_classes is {self.discriminator.num_classes}: give both the"
                " same"
            )
        for key in ("num_critic_steps", "accumulate_grad_batches"):
            if getattr(self, key) < 1:
                raise UserError(f"model.init_args.{key} is {getattr(self, key)}: it must be at least 1")

    def setup(self, stage: str) -> None:
        """Refuse what manual optimisation cannot do, then check the data."""
        if self.trainer.precision in ("16-mixed", "16-true"):
            raise UserError(
                f"trainer.precision is {self.trainer.precision}: penalties need gradients that are not scaled; use"
                " bf16-mixed or 32-true"
            )
        super().setup(stage)

    def check_data(self, data: "DataModule") -> None:
        """Let the discriminator score two samples, too."""
        super().check_data(data)
        sample = self.sample(2, seeds=sample_seeds(0, torch.arange(2)))
        wanted = tuple(data.sample_shape)
        y = torch.zeros(2, dtype=torch.int64, device=sample.device) if self.num_classes else None
        try:
            scores = self._probe(self.discriminator, sample, y)
        except RuntimeError as error:
            raise UserError(
                f"model.init_args.discriminator cannot read samples of shape {wanted}: set"
                f" model.init_args.discriminator.init_args.image_size and channels to those of data ({error})"
            ) from error
        if scores.shape != (2,):
            raise UserError(
                f"model.init_args.discriminator turns 2 samples of shape {wanted} into scores of shape"
                f" {tuple(scores.shape)}: it must give one score a sample; check its image_size"
            )

    @torch.no_grad()
    def _probe(self, network: nn.Module, x: Tensor, y: Tensor | None) -> Tensor:
        training = network.training
        try:
            return network.eval()(x, y)
        finally:
            network.train(training)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for the module's own weights; they still flow through it."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def _full(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _detached(terms: Terms) -> Terms:
    return {key: value.detach() for key, value in terms.items()}


def _nothing() -> None:
    """A closure for optimisers whose gradients are there already."""
