"""Semi-supervised GAN (Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, §5).

The discriminator classifies into K classes and "generated", whose logit is held at 0. With l(x) ∈ R^K and
Z(x) = Σ_k exp l_k(x), p(real | x) = Z / (Z + 1), so log Z is the score of an ordinary GAN:

    L_D = E_labelled[−log softmax(l(x))_y] + E_unlabelled[softplus(−log Z(x))] + E_generated[softplus(log Z(x̂))]
    L_G = ‖E f(x) − E f(G(z))‖² / F,  f ∈ R^F: what the discriminator's last layer sees (a mean, as the authors have it)
"""

from typing import TYPE_CHECKING

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from lightning_gen.errors import UserError
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.base import Discriminator, Generator, Judgement
from lightning_gen.samplers import LatentSampler
from lightning_gen.two_player import TwoPlayerModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class SemiSupervisedGAN(TwoPlayerModel):
    """A classifier that learns from few labels and many unlabelled images, by telling these from generated ones.

    Needs data with a few labels, such as `FewLabels`. Logs `val_error`, the share of held-out samples that the
    discriminator puts into a wrong class.

    Args:
        generator: latents to samples; unconditional.
        discriminator: samples to the `logits` of the classes and `features`, with a head such as `Classifier`.
        generator_optimizer: makes the generator's optimiser from its parameters.
        discriminator_optimizer: makes the discriminator's optimiser from its parameters.
        supervised_weight: of the first term of L_D, ≥ 0.
        unsupervised_weight: of the other two, ≥ 0; 0 for the supervised baseline.
        generator_scheduler: makes the generator's learning rate schedule, stepped once a step; None for a constant.
        discriminator_scheduler: the same for the discriminator.
        num_critic_steps: updates of the discriminator for each of the generator, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update of either network, ≥ 1.
        gradient_clip_val: largest norm of either network's gradient; None to leave it.
        channels_last: keep the weights of convolutions channels last.
        compile: submodules to hand to `torch.compile`: any of `generator`, `discriminator`.
        sampler: draws the latents when the trained model is sampled; from N(0, I) if unset.

    Raises:
        UserError: if the generator is conditional, the discriminator knows no classes, or a number is out of its range.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        generator_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        supervised_weight: float = 1.0,
        unsupervised_weight: float = 1.0,
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
        )
        if generator.num_classes is not None or discriminator.num_classes is None:
            raise UserError(
                f"num_classes of model.init_args.generator is {generator.num_classes} and of the discriminator"
                f" {discriminator.num_classes}: leave it unset in the first, and set it to the data's in the second"
            )
        for name, value in (("supervised_weight", supervised_weight), ("unsupervised_weight", unsupervised_weight)):
            if not value >= 0:
                raise UserError(f"model.init_args.{name} is {value}: it must be at least 0")
        self.supervised_weight, self.unsupervised_weight = supervised_weight, unsupervised_weight

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """What is logged of held-out samples."""
        return ("val_error",)

    # ---------------------------------------------------------------- the two losses

    def discriminator_loss(self, batch: Batch, update: int) -> tuple[Tensor, Terms]:
        """L_D of `x` (B, …) unlabelled, `labelled_x` (B, …) and `labelled_y` (B,) int64; and its terms."""
        labelled = self._judge(batch["labelled_x"], None).logits
        assert labelled is not None
        supervised = cross_entropy(labelled, batch["labelled_y"])
        terms = {"d_supervised": supervised}
        total = self.supervised_weight * supervised
        if self.unsupervised_weight:
            with torch.no_grad():
                fake = self.generator(self._latents(batch["x"]), None)
            real_scores, fake_scores = self._log_z(batch["x"]), self._log_z(fake)
            terms["d_unsupervised"] = softplus(-real_scores).mean() + softplus(fake_scores).mean()
            total = total + self.unsupervised_weight * terms["d_unsupervised"]
            if self.logs_this_step:
                terms |= {"d_real": real_scores.mean(), "d_fake": fake_scores.mean()}
        return total, terms | {"d_loss": total}

    def generator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_G of as many samples as `batch` has rows; the loss, and its terms."""
        fake = self._judge(self.generator(self._latents(batch["x"]), None), None).features
        with torch.no_grad():
            real = self._judge(batch["x"], None).features
        assert fake is not None
        assert real is not None
        loss = (real.mean(dim=0) - fake.mean(dim=0)).square().mean()
        return loss, {"g_loss": loss}

    def _log_z(self, x: Tensor) -> Tensor:
        """The score log Σ_k exp l_k(x), (B,)."""
        logits = self._judge(x, None).logits
        assert logits is not None
        return logits.logsumexp(dim=1)

    # ---------------------------------------------------------------- held-out data

    def held_out(self, batch: Batch) -> Terms:
        """(n,) 1 for a sample in a wrong class."""
        logits = self._judge(batch["x"], None).logits
        assert logits is not None
        return {"val_error": (logits.argmax(dim=1) != batch["y"]).float()}

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """There must be a few labels, of as many classes as the discriminator knows."""
        super().check_data(data)
        from lightning_gen.data import FewLabels

        if not isinstance(data, FewLabels):
            raise UserError(
                f"data is {type(data).__name__}, whose samples have no labelled ones beside them: wrap it in FewLabels"
            )
        if data.num_classes != self.discriminator.num_classes:
            raise UserError(
                f"model.init_args.discriminator.init_args.num_classes is {self.discriminator.num_classes} but data has"
                f" {data.num_classes} classes: set it to that"
            )

    def check_judgement(self, judged: Judgement, data: "DataModule") -> None:
        """Logits and features."""
        if judged.logits is None or judged.features is None:
            raise UserError(
                f"model.init_args.discriminator is {type(self.discriminator).__name__}, which gives no logits or no"
                " features: use one with a head that classifies, such as Classifier"
            )
