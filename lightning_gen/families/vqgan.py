"""VQGAN (Esser, Rombach, Ommer, "Taming transformers for high-resolution image synthesis", CVPR 2021).

An autoencoder with discrete latents that compares images by a perceptual loss, and plays against a discriminator of
patches. With D entries a sample, x̂ the mean of p(x | z), not clamped in training, and the quantiser's own loss:

    L_rec         = −log p(x | z) / D + w_p · d(x̂, x)
    autoencoder:    L_rec + w_q · L_quantiser + w_d λ · loss.generator(D(x̂))        λ = ‖∇L_rec‖ / (‖∇L_gan‖ + δ)
    discriminator:  loss.discriminator(D(x), D(x̂))

as in eqs. 4–7, λ of the gradients of the decoder's last layer (`losses.balance`). Before `discriminator_start` there is
no game.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_gen.adversarial import AdversarialModel, frozen
from lightning_gen.distributions.quantisers import Quantised, Quantiser, VectorQuantiser
from lightning_gen.errors import UserError
from lightning_gen.losses.adversarial import AdversarialLoss, Hinge
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.balance import balanced
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.losses.perceptual import PerceptualLoss
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder
from lightning_gen.networks.base import Discriminator, judgement
from lightning_gen.networks.patch import MapDiscriminator
from lightning_gen.optimizers import make_optimizers
from lightning_gen.precision import full
from lightning_gen.quantised import QuantisedModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class VQGAN(QuantisedModel, AdversarialModel):
    """An autoencoder with discrete latents and a discriminator, by manual optimisation.

    One step is one update of the autoencoder and, from `discriminator_start` on, one of the discriminator, by gradients
    at the same point. The published loss of pixels is that of `Laplace`, but for a constant.

    Args:
        encoder: samples to maps of features.
        decoder: makes the network from what codes stand for to the likelihood's parameters; conditional when its
            `num_classes` is set.
        likelihood: p(x | z).
        discriminator: scores every patch of an image, or each image; conditional on the same classes, or not.
        autoencoder_optimizer: makes the optimiser of encoder, quantiser, decoder and likelihood.
        discriminator_optimizer: makes the discriminator's.
        sample_shape: (C, H, W) of a sample.
        quantiser: makes what turns features into codes.
        loss: the pair of losses of the game; its means are over patches. `Hinge` if unset.
        perceptual: d, read when training starts; None for none.
        perceptual_weight: w_p ≥ 0.
        quantiser_weight: w_q ≥ 0.
        discriminator_weight: w_d ≥ 0.
        discriminator_start: first step of the game, ≥ 0; the discriminator's schedule starts with it.
        autoencoder_scheduler: makes a learning rate schedule, stepped once a step; None for a constant rate.
        discriminator_scheduler: likewise.
        accumulate_grad_batches: batches whose gradients are averaged for one update, ≥ 1; each has a λ of its own.
        gradient_clip_val: largest norm of either gradient; None to leave it.
        compile: submodules to hand to `torch.compile`, such as `[encoder, discriminator]`; not the decoder, whose last
            layer's gradients are wanted by themselves.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, the decoder has no `last_layer` or is to be
            compiled, or a number is out of its range.
    """

    def __init__(
        self,
        encoder: MapEncoder,
        decoder: Callable[[int, int], MapDecoder],
        likelihood: Likelihood,
        discriminator: MapDiscriminator | Discriminator,
        autoencoder_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        sample_shape: list[int],
        quantiser: Callable[[int], Quantiser] = VectorQuantiser,
        loss: AdversarialLoss | None = None,
        perceptual: PerceptualLoss | None = None,
        perceptual_weight: float = 1.0,
        quantiser_weight: float = 1.0,
        discriminator_weight: float = 0.8,
        discriminator_start: int = 0,
        autoencoder_scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        check_at_least(self, 0, perceptual_weight=perceptual_weight, quantiser_weight=quantiser_weight)
        check_at_least(self, 0, discriminator_weight=discriminator_weight, discriminator_start=discriminator_start)
        made = quantiser(encoder.num_features)
        network = decoder(made.latent_dim, likelihood.num_parameters)
        super().__init__(
            sample_shape,
            [encoder],
            network,
            likelihood,
            num_critic_steps=1,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            compile=compile,
            attributes=attributes,
        )
        _check(network, discriminator, self.num_classes, self.compiled)
        self.encoder = encoder
        self.quantiser = made
        self.discriminator = discriminator
        self.adversarial_loss = loss or Hinge()
        self.perceptual = perceptual
        self.perceptual_weight, self.quantiser_weight = perceptual_weight, quantiser_weight
        self.discriminator_weight, self.discriminator_start = discriminator_weight, discriminator_start
        self.optimizer_factories = autoencoder_optimizer, discriminator_optimizer
        self.scheduler_factories = autoencoder_scheduler, discriminator_scheduler

    @property
    def quantisers(self) -> Sequence[Quantiser]:
        """The one."""
        return [self.quantiser]

    def quantise(self, x: Tensor, y: Tensor | None) -> list[Quantised]:
        """One level."""
        return [self.quantiser(self.encoder(x, y))]

    # ---------------------------------------------------------------- the two losses

    def autoencoder_loss(self, batch: Batch, playing: bool, made: list[Tensor]) -> tuple[Tensor, Terms]:
        """What has the autoencoder's gradient, though not its value, which is among the terms; and these.

        Args:
            batch: `x` (B, C, H, W), and `y` when conditional.
            playing: whether the game has started.
            made: the reconstructions of this batch are added to it, without gradient.
        """
        x, y = batch["x"], self.condition_of(batch)
        (level,) = self.quantise(x, y)
        parameters = self.decoder(level.z, y)
        nats = -self.likelihood(parameters, x).mean()
        image = full(self.likelihood.expectation(parameters))
        made.append(image.detach())
        reconstruction = nats / prod(self.sample_shape)
        terms = {"reconstruction": -nats, "quantiser_loss": level.loss} | level.terms
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(image, x).mean()
            reconstruction = reconstruction + self.perceptual_weight * terms["perceptual"]
        others = self.quantiser_weight * level.loss
        if not playing:
            return reconstruction + others, terms | {"loss": reconstruction + others}
        real = self._scores(x, y) if self.adversarial_loss.relativistic else None
        terms["g_loss"] = self.adversarial_loss.generator(self._scores(image, y), real)
        own = [p for p in self.likelihood.parameters() if p.requires_grad]
        last, w = self.decoder.last_layer, self.discriminator_weight
        found, weight = balanced(reconstruction, terms["g_loss"], w, parameters, own, last, self._mean)
        loss = reconstruction + others + weight * terms["g_loss"]
        return found + others, terms | {"adversarial_weight": weight, "loss": loss}

    def _mean(self, x: Tensor) -> Tensor:
        """Of all processes; outside a run there is one."""
        return x if self._trainer is None else self.trainer.strategy.reduce(x, reduce_op="mean")

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The discriminator's loss, and its terms, from samples `x` and what was `made` of them."""
        y = self.condition_of(batch)
        real, fake = self._scores(batch["x"], y), self._scores(batch["made"], y)
        total = self.adversarial_loss.discriminator(real, fake)
        return total, {"d_loss": total, "d_real": real.mean(), "d_fake": fake.mean()}

    def _scores(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Of all patches of all samples, (n,)."""
        return full(judgement(self.discriminator(x, y)).scores).flatten()

    # ---------------------------------------------------------------- the step

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """One update of the autoencoder, and one of the discriminator where the game has started."""
        autoencoder_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        (batches,), logs = self.split_step(batch), self.logs_this_step
        playing = self.global_step >= self.discriminator_start
        made: list[Tensor] = []
        with frozen(self.discriminator):
            loss = partial(self.autoencoder_loss, playing=playing, made=made)
            terms = self.backward_mean(autoencoder_optimizer, batches, loss)
        if playing:
            pairs = [part | {"made": image} for part, image in zip(batches, made, strict=True)]
            terms |= self.backward_mean(discriminator_optimizer, pairs, self.discriminator_loss)
            self.step_uncounted(discriminator_optimizer)
        self.step_counted(autoencoder_optimizer, [] if playing else [discriminator_optimizer])
        if logs:
            self.log_dict(terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    def configure_optimizers(self) -> Any:
        """The autoencoder's optimiser and schedule, then the discriminator's."""
        networks = nn.ModuleList([self.encoder, self.quantiser, self.decoder, self.likelihood]), self.discriminator
        return make_optimizers(*zip(networks, self.optimizer_factories, self.scheduler_factories, strict=True))

    # ---------------------------------------------------------------- set-up

    def setup(self, stage: str) -> None:
        """Read the perceptual loss, which only training needs, and try it."""
        super().setup(stage)
        if stage == "fit" and self.perceptual is not None:
            self.perceptual.check(self._blank())

    @torch.no_grad()
    def check_data(self, data: "DataModule") -> None:
        """Let the discriminator score samples, too."""
        super().check_data(data)
        try:
            with evaluating(self.discriminator):
                self._scores(self._blank(), self.condition.blank(2, self.device))
        except RuntimeError as error:
            raise UserError(
                f"model.init_args.discriminator cannot read samples of shape {list(self.sample_shape)}: correct the"
                f" sizes in its init_args ({error})"
            ) from error

    def _blank(self) -> Tensor:
        return torch.zeros(2, *self.sample_shape, device=self.device, dtype=self.dtype)  # type: ignore[arg-type]


def _check(
    decoder: MapDecoder, discriminator: MapDiscriminator | Discriminator, num_classes: int | None, compiled: list[str]
) -> None:
    """Raise `UserError` if networks do not suit this family, or each other."""
    if discriminator.num_classes not in (None, num_classes):
        raise UserError(
            f"num_classes of model.init_args.discriminator is {discriminator.num_classes} but the decoder's is"
            f" {num_classes}: make them equal, or leave the discriminator's unset"
        )
    if "decoder" in compiled:
        raise UserError(
            "model.init_args.compile has decoder, whose last layer's gradients VQGAN wants by themselves: leave it out"
        )
    try:
        decoder.last_layer  # noqa: B018 - asks for it
    except NotImplementedError as error:
        raise UserError(f"model.init_args.decoder does not suit VQGAN: {error}") from error
