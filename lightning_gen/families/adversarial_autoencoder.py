"""Adversarial autoencoders (Makhzani et al., "Adversarial Autoencoders", arXiv:1511.05644).

An encoder gives codes q(z | x), a decoder p(x | z). A discriminator D tells draws from the prior from the codes of
samples, and the encoder learns to make the distribution of these the prior's, q(z) = E_x q(z | x) → p(z):

    L_reconstruction = −E_x E_q(z | x) log p(x | z)                                        encoder, decoder
    L_discriminator  = loss.discriminator(D(z'), D(z)),  z' ~ p, z ~ q                     discriminator
    L_encoder        = loss.generator(D(z)),  z ~ q                                        encoder

With a Gaussian likelihood this is the Wasserstein autoencoder WAE-GAN for the squared error (Tolstikhin et al., ICLR
2018, §3 and algorithm 1), but for its updates: there the first and the last loss, weighted, make one update.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.distributions import Distribution

from lightning_gen.adversarial_codes import AdversarialCodesModel
from lightning_gen.conditions import Attributes
from lightning_gen.distributions import Deterministic, FixedMixture, StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.latent_discriminator import check_scores, scores
from lightning_gen.losses.adversarial import AdversarialLoss
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.networks.base import Discriminator

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class AdversarialAutoencoder(AdversarialCodesModel):
    """An autoencoder whose codes a discriminator moves onto a prior, by manual optimisation.

    One step is one update of encoder and decoder (reconstruction), `num_critic_steps` of the discriminator and one of
    the encoder (regularisation).

    With classes: a conditional decoder leaves the codes what classes do not say, the style (§4 of the paper); where the
    discriminator is conditional too, the codes of each class are moved onto the prior by themselves; or, with
    `label_informed`, each onto a component of its own of a mixture (§2.3, whose decoder is not told of classes).

    Args:
        encoder: samples to features of the code.
        decoder: makes the network from codes to the likelihood's parameters; conditional when its `num_classes` is set.
        latent_dim: length of a code, ≥ 1.
        likelihood: p(x | z), of the reconstruction.
        discriminator: makes the discriminator from the length of a code, such as `MLPDiscriminator`.
        loss: the pair of losses of discriminator and encoder; draws from the prior are the real samples.
        autoencoder_optimizer: makes the optimiser of the reconstruction, from the parameters of encoder and decoder.
        discriminator_optimizer: makes the discriminator's.
        encoder_optimizer: makes that of the regularisation, from the parameters of the encoder.
        posterior: makes q(z | x): codes without noise, or a distribution such as `DiagonalNormal`.
        prior: makes p(z); any that has a sampler, such as `RingMixture`. Parameters stay what they are at first.
        label_informed: the codes of class k, and samples of it, belong to component k of the prior, which must be a
            `FixedMixture` with as many components as there are classes.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        autoencoder_scheduler: makes a learning rate schedule, stepped once a step; None for a constant rate.
        discriminator_scheduler: likewise.
        encoder_scheduler: likewise.
        num_critic_steps: updates of the discriminator a step, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update, ≥ 1.
        gradient_clip_val: largest norm of the gradient of a phase; None to leave it.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, the prior moves with the encoder or has no
            component for each class where it is to have one, latents of prior and posterior have different lengths, or
            a count is below 1.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        discriminator: Callable[[int], Discriminator],
        loss: AdversarialLoss,
        autoencoder_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        encoder_optimizer: OptimizerCallable,
        posterior: Callable[[int, int | None], VariationalLayer] = Deterministic,
        prior: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        autoencoder_scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        encoder_scheduler: LRSchedulerCallable | None = None,
        num_critic_steps: int = 1,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
        label_informed: bool = False,
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
            attributes=attributes,
        )
        self.discriminator = discriminator(self.prior.sample_dim)
        self.adversarial_loss = loss
        if self.discriminator.num_classes not in (None, self.num_classes):
            raise UserError(
                f"num_classes of model.init_args.discriminator is {self.discriminator.num_classes} but the decoder's is"
                f" {self.num_classes}: make them equal, or leave the discriminator's unset"
            )

        self.label_informed = label_informed
        if label_informed:
            self._check_components()

    def _check_components(self) -> None:
        count = self.prior.num_components if isinstance(self.prior, FixedMixture) else None
        told = self.discriminator.num_classes is not None and not isinstance(self.condition, Attributes)
        if not told or count != self.num_classes:
            found = "no components of its own" if count is None else f"{count} components"
            raise UserError(
                f"model.init_args.label_informed is true, but the prior {type(self.prior).__name__} has {found}: use a"
                " RingMixture or FixedMixture with one for each of the num_classes of decoder and discriminator, and no"
                " attributes"
            )

    def prior_of(self, y: Tensor | None) -> Distribution:
        """p(z), or the component p(z | y) of each class."""
        if not self.label_informed:
            return super().prior_of(y)
        assert isinstance(self.prior, FixedMixture)
        assert y is not None
        return self.prior.components(y)

    @property
    def discriminator_parts(self) -> list[nn.Module]:
        """What learns in the second phase."""
        return [self.discriminator]

    # ---------------------------------------------------------------- the three losses

    def reconstruction_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_reconstruction, nats a sample; the mean over the batch."""
        x, y = batch["x"], self.condition_of(batch)
        loss = self.reconstruction_loss_of(self.codes_of(x, y), x, y)
        return loss, {"reconstruction": -loss}

    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_discriminator, on as many draws from the prior as `batch` has rows."""
        x, y = batch["x"], self.condition_of(batch)
        with torch.no_grad():
            codes = self.codes_of(x, y)
        real = scores(self.discriminator, self.prior_codes(len(x), y), y)
        fake = scores(self.discriminator, codes, y)
        loss = self.adversarial_loss.discriminator(real, fake)
        return loss, {"d_loss": loss, "d_real": real.mean(), "d_fake": fake.mean()}

    def encoder_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L_encoder."""
        x, y = batch["x"], self.condition_of(batch)
        fake = scores(self.discriminator, self.codes_of(x, y), y)
        wanted = self.prior_codes(len(x), y) if self.adversarial_loss.relativistic else None
        real = None if wanted is None else scores(self.discriminator, wanted, y)
        loss = self.adversarial_loss.generator(fake, real)
        return loss, {"g_loss": loss}

    # ---------------------------------------------------------------- set-up

    def check_data(self, data: "DataModule") -> None:
        """The discriminator must judge codes, too."""
        super().check_data(data)
        y = self.condition.blank(2, self.device)
        check_scores(self.discriminator, self.prior_codes(2, y), y)
