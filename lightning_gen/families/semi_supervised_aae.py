"""Semi-supervised adversarial autoencoders (Makhzani et al., "Adversarial Autoencoders", arXiv:1511.05644, §5).

The encoder gives probabilities ŷ = softmax(l(x)) of K classes and a style z; the decoder takes both. Two discriminators
move the distributions of ŷ and z onto those of one-hot vectors of uniform classes and of the prior:

    L_reconstruction = −E log p(x | ŷ, z)                                                  encoder, decoder
    L_discriminator  = loss.discriminator(D_y(y'), D_y(ŷ)) + loss.discriminator(D_z(z'), D_z(z)),  y' ~ U{1..K}, z' ~ p
    L_encoder        = loss.generator(D_y(ŷ)) + loss.generator(D_z(z))                     encoder
    L_classifier     = −E_labelled log softmax(l(x))_y                                     encoder, without style
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lightning_gen.adversarial_codes import AdversarialCodesModel
from lightning_gen.distributions import Deterministic, StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.latent_discriminator import check_scores, scores
from lightning_gen.losses.adversarial import AdversarialLoss
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.networks.base import Discriminator
from lightning_gen.networks.conditioning import indicators
from lightning_gen.optimizers import make_optimizers
from lightning_gen.precision import full

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

_DISCRIMINATORS = ("class_discriminator", "style_discriminator")


class SemiSupervisedAdversarialAutoencoder(AdversarialCodesModel):
    """An autoencoder that classifies, and learns to from few labels and many samples without.

    Needs data with a few labels, such as `FewLabels`. One step is one update of each phase, the discriminators'
    `num_critic_steps` times. Logs `val_error`, the share of held-out samples put into a wrong class, and
    `val_reconstruction`, log p(x | ŷ, z) in nats. `reconstruct` takes the encoder's ŷ unless given classes.

    Args:
        encoder: samples to features, of which classes and style are read off; unconditional.
        decoder: makes the network from styles and classes to the likelihood's parameters; its `num_classes` is K.
        latent_dim: length of a style, ≥ 1.
        likelihood: p(x | y, z).
        class_discriminator: makes the discriminator of (B, K) probabilities from K, such as `MLPDiscriminator`.
        style_discriminator: makes that of styles from their length.
        loss: the pair of losses of discriminators and encoder.
        autoencoder_optimizer: makes the optimiser of the reconstruction, from the parameters of encoder and decoder.
        discriminator_optimizer: makes that of both discriminators.
        encoder_optimizer: makes that of the regularisation, from the parameters of the encoder.
        classifier_optimizer: makes that of the classification, from the parameters of the encoder without the style's.
        posterior: makes q(z | x): styles without noise, or a distribution such as `DiagonalNormal`.
        prior: makes p(z); any that has a sampler, such as `RingMixture`. Parameters stay what they are at first.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        autoencoder_scheduler: makes a learning rate schedule, stepped once a step; None for a constant rate.
        discriminator_scheduler: likewise.
        encoder_scheduler: likewise.
        classifier_scheduler: likewise.
        num_critic_steps: updates of the discriminators a step, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update, ≥ 1.
        gradient_clip_val: largest norm of the gradient of a phase; None to leave it.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.

    Raises:
        UserError: if the decoder has no classes, another network is conditional, the prior moves with the encoder, or
            a count is below 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        class_discriminator: Callable[[int], Discriminator],
        style_discriminator: Callable[[int], Discriminator],
        loss: AdversarialLoss,
        autoencoder_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        encoder_optimizer: OptimizerCallable,
        classifier_optimizer: OptimizerCallable,
        posterior: Callable[[int, int | None], VariationalLayer] = Deterministic,
        prior: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        autoencoder_scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        encoder_scheduler: LRSchedulerCallable | None = None,
        classifier_scheduler: LRSchedulerCallable | None = None,
        num_critic_steps: int = 1,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        compile: list[str] | None = None,
        sample_noise: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            likelihood,
            posterior,
            prior,
            sample_noise=sample_noise,
            optimizers=(autoencoder_optimizer, discriminator_optimizer, encoder_optimizer),
            schedulers=(autoencoder_scheduler, discriminator_scheduler, encoder_scheduler),
            num_critic_steps=num_critic_steps,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            compile=compile,
        )
        if self.num_classes is None:
            raise UserError("model.init_args.decoder has no num_classes, but takes classes: set it to the data's")
        self.classifier = nn.Linear(encoder.num_features, self.num_classes)
        self.class_discriminator = class_discriminator(self.num_classes)
        self.style_discriminator = style_discriminator(self.prior.sample_dim)
        self.adversarial_loss = loss
        self.classifier_optimizer_factory = classifier_optimizer
        self.classifier_scheduler_factory = classifier_scheduler
        for name, network in zip(("encoder", *_DISCRIMINATORS), (encoder, *self._judges), strict=True):
            if network.num_classes is not None:
                raise UserError(
                    f"num_classes of model.init_args.{name} is {network.num_classes}, but it is not told of classes:"
                    " leave it unset"
                )

    # ---------------------------------------------------------------- codes

    def logits_of(self, x: Tensor) -> Tensor:
        """(B, K) l(x) of samples (B, …), in full precision."""
        return full(self.classifier(self.encoder(x)))

    def classes_and_style_of(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """ŷ (B, K), probabilities, and z (B, d), drawn by torch's global generator."""
        h = self.encoder(x)
        return full(self.classifier(h)).softmax(dim=1), self.posterior(h).rsample()

    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """What stands for the posterior of the style, (n, d)."""
        return self.posterior.mean(self.posterior(self.encoder(x)))

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.Reconstructs`; with the probabilities ŷ where no classes are given."""
        if y is None:
            with torch.no_grad(), evaluating(self):
                y = self.logits_of(x).softmax(dim=1)
        return super().reconstruct(x, y)

    # ---------------------------------------------------------------- the losses

    def reconstruction_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_reconstruction of `x`, nats a sample; the mean over the batch."""
        classes, style = self.classes_and_style_of(batch["x"])
        loss = self.reconstruction_loss_of(style, batch["x"], classes)
        return loss, {"reconstruction": -loss}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_discriminator, on as many draws from the priors as `batch` has rows."""
        with torch.no_grad():
            codes = self.classes_and_style_of(batch["x"])
        of_classes, of_style = (
            self.adversarial_loss.discriminator(scores(judge, real), scores(judge, fake))
            for judge, real, fake in zip(self._judges, self._draws(codes), codes, strict=True)
        )
        loss = of_classes + of_style
        return loss, {"d_loss": loss, "d_classes": of_classes, "d_style": of_style}

    def encoder_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_encoder."""
        codes = self.classes_and_style_of(batch["x"])
        wanted = self._draws(codes) if self.adversarial_loss.relativistic else (None, None)
        of_classes, of_style = (
            self.adversarial_loss.generator(scores(judge, fake), None if real is None else scores(judge, real))
            for judge, real, fake in zip(self._judges, wanted, codes, strict=True)
        )
        loss = of_classes + of_style
        return loss, {"g_loss": loss, "g_classes": of_classes, "g_style": of_style}

    def classifier_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_classifier of `labelled_x` (B, …) and `labelled_y` (B,) int64."""
        loss = cross_entropy(self.logits_of(batch["labelled_x"]), batch["labelled_y"])
        return loss, {"classifier_loss": loss}

    @property
    def _judges(self) -> tuple[Discriminator, Discriminator]:
        return self.class_discriminator, self.style_discriminator

    def _draws(self, codes: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """As many from both priors as there are codes (B, K) and (B, d)."""
        classes, _ = codes
        num, count = classes.shape
        drawn = torch.randint(count, (num,), device=classes.device)
        return indicators(drawn, count, classes.dtype), self.prior_codes(num)

    @property
    def discriminator_parts(self) -> list[nn.Module]:
        """Both discriminators."""
        return list(self._judges)

    @property
    def encoder_parts(self) -> list[nn.Module]:
        """The layer of the classes, too."""
        return [*super().encoder_parts, self.classifier]

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """Classification of as many labelled samples as there are others, then the three phases of the autoencoder."""
        *_, optimizer = self.optimizers()  # type: ignore[attr-defined]
        terms = self.backward_mean(optimizer, self.split_step(batch)[-1], self.classifier_loss)
        self.step_uncounted(optimizer)
        if self.logs_this_step:
            self.log_dict(terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms | super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        """Of the autoencoder's three phases, then of the classification."""
        optimizers, schedules = super().configure_optimizers()
        classifying = nn.ModuleList([self.encoder, self.classifier])
        recipe = (classifying, self.classifier_optimizer_factory, self.classifier_scheduler_factory)
        more_optimizers, more_schedules = make_optimizers(recipe)
        return optimizers + more_optimizers, schedules + more_schedules

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """What is logged of held-out samples."""
        return ("val_error", "val_reconstruction")

    def held_out(self, batch: Batch) -> Terms:
        """(n,) 1 for a sample in a wrong class; and log p(x | ŷ, z) in nats."""
        x, logits = batch["x"], self.logits_of(batch["x"])
        reconstruction = self.likelihood(self.decoder(self.latents_of(x, None), logits.softmax(dim=1)), x)
        wrong = logits.argmax(dim=1) != batch["y"]
        return {"val_error": wrong.to(logits.dtype), "val_reconstruction": reconstruction}

    def check_data(self, data: "DataModule") -> None:
        """There must be a few labels, and the discriminators must judge codes."""
        from lightning_gen.data import FewLabels

        if not isinstance(data, FewLabels):
            raise UserError(
                f"data is {type(data).__name__}, whose samples have no labelled ones beside them: wrap it in FewLabels"
            )
        super().check_data(data)
        assert self.num_classes is not None
        zeros = torch.zeros(2, self.num_classes, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]
        for judge, codes, key in zip(self._judges, (zeros, self.prior_codes(2)), _DISCRIMINATORS, strict=True):
            check_scores(judge, codes, None, key)
