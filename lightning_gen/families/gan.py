"""Generative adversarial networks (Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014).

A generator G maps latents z ~ N(0, I) to samples; a discriminator D scores samples. Each minimises its own loss:

    L_D = loss.discriminator(D(T(x)), D(T(G(z)))) + Σ penalties            + auxiliary
    L_G = loss.generator(D(T(G(z))))              + Σ generator_penalties  + auxiliary        T: the augmentation

A recipe is a choice of networks, losses, penalties and schedules; a variant that changes the step overrides one method.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.func import functional_call

from lightning_gen.augmentation import Augmentation
from lightning_gen.errors import UserError
from lightning_gen.losses.adversarial import AdversarialLoss
from lightning_gen.losses.auxiliary import AuxiliaryLoss
from lightning_gen.losses.constraints import Constraint
from lightning_gen.losses.penalties import DiscriminatorTurn, GeneratorPenalty, GeneratorTurn, Judge, Penalty
from lightning_gen.losses.unrolling import Unrolling
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.base import Discriminator, Generator, Judgement, judgement
from lightning_gen.precision import full
from lightning_gen.samplers import LatentSampler
from lightning_gen.two_player import TwoPlayerModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


_T = TypeVar("_T", Penalty, GeneratorPenalty)


class GAN(TwoPlayerModel):
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
        generator_penalties: terms added to the generator's loss.
        auxiliary: what both learn from classes, or codes, beside the scores.
        augmentation: changes real and generated samples before the discriminator sees them.
        constraint: applied to the discriminator's weights after each of its updates.
        unrolling: lets the generator answer the discriminator as it will be some updates later.
        attributes: names of the attributes that samples are conditioned on, as many as the networks' `num_classes`.
        generator_scheduler: makes the generator's learning rate schedule, stepped once a step; None for a constant.
        discriminator_scheduler: the same for the discriminator, stepped once a step too.
        num_critic_steps: updates of the discriminator for each of the generator, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update of either network, ≥ 1.
        gradient_clip_val: largest norm of either network's gradient; None to leave it.
        channels_last: keep the weights of convolutions channels last, which makes them faster on CPUs, and on GPUs in
            bf16; samples change by rounding.
        compile: submodules to hand to `torch.compile`: any of `generator`, `discriminator`; terms that are
            differentiated twice run eagerly.
        sampler: draws the latents when the trained model is sampled; from N(0, I) if unset.

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
        generator_penalties: list[GeneratorPenalty] | None = None,
        auxiliary: AuxiliaryLoss | None = None,
        augmentation: Augmentation | None = None,
        constraint: Constraint | None = None,
        unrolling: Unrolling | None = None,
        attributes: list[str] | None = None,
        generator_scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        num_critic_steps: int = 1,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        channels_last: bool = False,
        compile: list[str] | None = None,
        sampler: LatentSampler | None = None,
    ) -> None:
        super().__init__(
            generator,
            discriminator,
            (generator_optimizer, discriminator_optimizer),
            (generator_scheduler, discriminator_scheduler),
            channels_last,
            sampler,
            num_critic_steps=num_critic_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            compile=compile,
            attributes=attributes,
        )
        if discriminator.num_classes != generator.num_classes:
            raise UserError(
                f"model.init_args.generator.init_args.num_classes is {generator.num_classes} but the discriminator's"
                f" is {discriminator.num_classes}: give both the same"
            )
        if auxiliary is not None and generator.num_classes is None:
            raise UserError(
                f"model.init_args.auxiliary is {type(auxiliary).__name__}, which needs classes: set num_classes of both"
                " networks"
            )
        if auxiliary is not None and attributes is not None and not auxiliary.takes_attributes:
            raise UserError(
                f"model.init_args.auxiliary is {type(auxiliary).__name__}, which works on classes, but"
                " model.init_args.attributes is set: use AuxiliaryClassifier, or none"
            )
        if unrolling is not None and (augmentation is not None or penalties):
            other = "augmentation" if augmentation is not None else "penalties"
            raise UserError(
                f"model.init_args.unrolling and model.init_args.{other} are both set, but the unrolled updates would"
                " leave the latter out: use one of them"
            )
        names = [penalty.name for penalty in (*(penalties or []), *(generator_penalties or []))]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"model.init_args.penalties has {twice[0]} twice: give it once, with the sum of the weights"
            )
        self.loss = loss
        self.penalties: Sequence[Penalty] = nn.ModuleList(penalties or [])  # type: ignore[assignment]
        self.generator_penalties: Sequence[GeneratorPenalty] = nn.ModuleList(generator_penalties or [])  # type: ignore[assignment]
        self.auxiliary = auxiliary
        self.augmentation = augmentation
        self.constraint = constraint
        self.unrolling = unrolling

    # ---------------------------------------------------------------- the two losses

    def discriminator_loss(self, batch: Batch, update: int) -> tuple[Tensor, Terms]:
        """L_D of one batch, and its terms; see `TwoPlayerModel`."""
        y, z, due = self.condition_of(batch), self._latents(batch["x"]), _due(self.penalties, update)
        with torch.no_grad():
            fake = self.generator(z, y)
            real, fake = self._seen(batch["x"], fake, y)
        leaves = self._leaves(real, fake) if any(penalty.of_samples for penalty in due) else None
        of_real, of_fake = (self._judge(x, y) for x in leaves or (real, fake))
        total = self.loss.discriminator(of_real.scores, of_fake.scores)
        terms = {"d_loss": total}
        if self.auxiliary is not None:
            assert y is not None
            terms["d_auxiliary"] = self.auxiliary.discriminator(of_real, of_fake, y, z)
            total = total + terms["d_auxiliary"]
        if self.logs_this_step:
            terms |= {"d_real": of_real.scores.mean(), "d_fake": of_fake.scores.mean()}
        if self.augmentation is not None:  # one score an image, also where several share one
            self.augmentation.observe(of_real.scores.detach().repeat_interleave(self.discriminator.packing))
        if due:
            seen = full(real), full(fake)
            scores = of_real.scores, of_fake.scores
            turn = DiscriminatorTurn(self._scores, *seen, y, *scores, self.discriminator, self._generated, z, leaves)
            total = total + self._penalised(due, turn, terms)
        return total, terms

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_G on fresh latents, as many as `batch` has rows and with its classes; the loss, and its terms."""
        y, z = self.condition_of(batch), self._latents(batch["x"])
        fake = self.generator(z, y)
        judge = self._judge if self.unrolling is None else self._unrolled(self.unrolling, batch["x"], fake, y)
        judged = judge(self._augmented(fake), y)

        @cache
        def judge_real() -> Judgement:  # an unrolled discriminator's answer depends on the generator
            with torch.set_grad_enabled(self.unrolling is not None):
                return judge(self._augmented(batch["x"]), y)

        wanted = (judge_real().scores,) if self.loss.relativistic else ()
        total = self.loss.generator(judged.scores, *wanted)
        terms = {"g_loss": total}
        if self.auxiliary is not None:
            assert y is not None
            terms["g_auxiliary"] = self.auxiliary.generator(judged, y, z)
            total = total + terms["g_auxiliary"]
        if due := _due(self.generator_penalties, self.global_step):
            turn = GeneratorTurn(self.generator, self.generator, z, y, fake, judged, batch["x"], judge_real)
            total = total + self._penalised(due, turn, terms)
        return total, terms

    def after_discriminator_update(self, update: int) -> None:
        """Constrain the weights, and let running means and the augmentation follow."""
        if self.constraint is not None:
            self.constraint(self.discriminator)
        for penalty in _due(self.penalties, update):
            penalty.advance()
        if self.augmentation is not None:
            self.augmentation.adjust()

    def after_generator_update(self) -> None:
        """Let running means follow."""
        for penalty in _due(self.generator_penalties, self.global_step - 1):
            penalty.advance()

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """What is logged of held-out samples."""
        return ("d_held_out",)

    def held_out(self, batch: Batch) -> Terms:
        """(n,) scores: an overfitted discriminator takes held-out samples for generated (ADA, NeurIPS 2020, eq. 1)."""
        return {"d_held_out": self._scores(batch["x"], self.condition_of(batch))}

    @property
    def lazy_names(self) -> list[str]:
        """Of the penalties."""
        return [penalty.name for penalty in (*self.penalties, *self.generator_penalties)]

    @property
    def draws_classes(self) -> bool:
        """True where classes are codes to be found (InfoGAN)."""
        return self.auxiliary is not None and self.auxiliary.draws_classes

    # ---------------------------------------------------------------- parts

    def _augmented(self, x: Tensor) -> Tensor:
        return x if self.augmentation is None else self.augmentation(x)

    def _seen(self, real: Tensor, fake: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Real and generated samples as the discriminator sees them."""
        if self.augmentation is None:
            return real, fake
        others = fake.roll(1, 0) if y is None else fake  # not the one that a pairing loss compares it with
        return self.augmentation(self.augmentation.replace(real, others)), self.augmentation(fake)

    def _leaves(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor] | None:
        """The samples for scores to be differentiated by, unless those are compiled or of less than full precision."""
        device = self.device.type
        if self.compiled or (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return None
        return real.detach().requires_grad_(True), fake.detach().requires_grad_(True)

    def _scores(self, x: Tensor, y: Tensor | None) -> Tensor:
        return self._judge(x, y).scores

    @torch.no_grad()
    def _generated(self, z: Tensor, y: Tensor | None) -> Tensor:
        return self.generator(z, y)

    def _penalised(self, due: list[_T], turn: Any, terms: Terms) -> Tensor:
        """The sum of the terms that are due, each weighted by its interval."""
        total = torch.zeros((), device=self.device)
        for penalty in due:
            with self._full_precision() if penalty.full_precision else nullcontext():
                terms[penalty.name] = penalty(turn)
            total = total + penalty.interval * terms[penalty.name]
        return total

    def _unrolled(self, unrolling: Unrolling, real: Tensor, fake: Tensor, y: Tensor | None) -> Judge:
        """The discriminator after some updates against these very samples, differentiable in `fake`."""

        def judge(x: Tensor, y: Tensor | None, weights: dict[str, Tensor]) -> Judgement:
            with self._full_precision():
                return judgement(functional_call(self.discriminator, weights, (full(x), y)))

        def loss(scores: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
            return self.loss.discriminator(scores(full(real), y), scores(full(fake), y))

        with self._full_precision():
            return partial(judge, weights=unrolling(self.discriminator, loss))

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """See that augmentation and auxiliary loss can work on what they are given, too."""
        super().check_data(data)
        shape = tuple(data.sample_shape)
        for augmentation in (module for module in self.modules() if isinstance(module, Augmentation)):
            if wrong := augmentation.check(shape):  # the model's own, or a penalty's
                name = type(augmentation).__name__
                raise UserError(f"the augmentation {name} does not suit data's samples of shape {shape}: {wrong}")

    def check_judgement(self, judged: Judgement, data: "DataModule") -> None:
        """See that the terms find what they need."""
        for term in (self.auxiliary, *self.generator_penalties):
            if term is not None and (missing := term.check(judged)):
                where = "auxiliary" if term is self.auxiliary else "generator_penalties"
                raise UserError(f"model.init_args.{where} has {type(term).__name__}, but {missing}")


def _due(penalties: Sequence[_T], update: int) -> list[_T]:
    """The terms that are evaluated in an update."""
    return [penalty for penalty in penalties if update % penalty.interval == 0]
