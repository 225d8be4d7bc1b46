"""VAE/GAN (Larsen et al., "Autoencoding beyond pixels using a learned similarity metric", ICML 2016).

A variational autoencoder whose decoder is also the generator of a GAN. Samples are compared by the features f that the
discriminator D reads off them, not by their pixels (eq. 7). With z ~ q(z | x), x̃ = Dec(z), x_p = Dec(z_p), z_p ~ p(z):

    L_prior    = E KL(q(z | x) ‖ p(z))
    L_features = E ½‖f(x) − f(x̃)‖²,   −log N(f(x); f(x̃), I) but for a constant

    encoder:         L_prior + L_features
    decoder:         γ L_features + loss.generator(D(x̃)) + loss.generator(D(x_p))
    discriminator:   ½ loss.discriminator(D(x), D(x̃)) + ½ loss.discriminator(D(x), D(x_p))

as in algorithm 1: the discriminator does not learn from L_features, nor the encoder from the game. Real and generated
samples weigh the same in the discriminator's loss, as in the authors' code; the paper has twice as many generated.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lightning_gen.adversarial import AdversarialModel
from lightning_gen.distributions import DiagonalNormal, StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.losses.adversarial import AdversarialLoss
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds import ClosedForm, Inference, KLEstimator
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.networks.base import Discriminator, Judgement, judgement
from lightning_gen.optimizers import make_optimizers
from lightning_gen.precision import full
from lightning_gen.variational import VariationalModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class VAEGAN(VariationalModel, AdversarialModel):
    """A variational autoencoder with a learned similarity, by manual optimisation.

    One step is one update of encoder, decoder and discriminator each, by gradients at the same point.

    Args:
        encoder: samples to features of the posterior.
        decoder: makes the network from latents to the likelihood's parameters; conditional when its `num_classes` is
            set.
        latent_dim: number of latent variables, ≥ 1.
        likelihood: without parameters; its mean, not clamped in training, makes samples of what the decoder gives, such
            as that of `BoundedGaussian`. Nothing is trained by it, but held-out samples are judged by it.
        discriminator: samples to scores and `features`; conditional on the same classes, or not.
        loss: the pair of losses of the game.
        encoder_optimizer: makes the optimiser of the encoder, and of a prior with parameters.
        decoder_optimizer: makes the decoder's.
        discriminator_optimizer: makes the discriminator's.
        feature_weight: γ, ≥ 0, in units of the features' squares; the authors' code has 10⁻², and 10⁻⁶ for faces.
        kl: how the divergence is computed; in closed form if unset.
        posterior: makes q(z | x).
        prior: makes p(z).
        prior_features: length of a learnt embedding of `y` that the prior's parameters are linear in; None for a prior
            that does not depend on `y`.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        encoder_scheduler: makes a learning rate schedule, stepped once a step; None for a constant rate.
        decoder_scheduler: likewise.
        discriminator_scheduler: likewise.
        accumulate_grad_batches: batches whose gradients are averaged for one update, ≥ 1.
        gradient_clip_val: largest norm of each of the three gradients; None to leave it.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, latents of prior and posterior have different
            lengths, the posterior has no density, the likelihood has parameters, or a number is out of its range;
            before training, if kl, posterior, prior, discriminator and data do not go together.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        discriminator: Discriminator,
        loss: AdversarialLoss,
        encoder_optimizer: OptimizerCallable,
        decoder_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        feature_weight: float = 1e-2,
        kl: KLEstimator | None = None,
        posterior: Callable[[int, int | None], VariationalLayer] = DiagonalNormal,
        prior: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        prior_features: int | None = None,
        sample_noise: bool = False,
        encoder_scheduler: LRSchedulerCallable | None = None,
        decoder_scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            latent_dim,
            likelihood,
            posterior,
            prior,
            prior_features,
            sample_noise,
            num_critic_steps=1,
            accumulate_grad_batches=accumulate_grad_batches,
            gradient_clip_val=gradient_clip_val,
            compile=None,
            attributes=attributes,
        )
        check_at_least(self, 0, feature_weight=feature_weight)
        if discriminator.num_classes not in (None, self.num_classes):
            raise UserError(
                f"num_classes of model.init_args.discriminator is {discriminator.num_classes} but the decoder's is"
                f" {self.num_classes}: make them equal, or leave the discriminator's unset"
            )
        if any(p.requires_grad for p in likelihood.parameters()):
            raise UserError(
                f"model.init_args.likelihood is {type(likelihood).__name__} with parameters of its own, which nothing"
                " trains here, since the discriminator's features take its place: fix them"
            )
        self.discriminator = discriminator
        self.adversarial_loss = loss
        self.feature_weight = feature_weight
        self.kl = kl or ClosedForm()
        self.optimizer_factories = encoder_optimizer, decoder_optimizer, discriminator_optimizer
        self.scheduler_factories = encoder_scheduler, decoder_scheduler, discriminator_scheduler

    # ---------------------------------------------------------------- the three losses

    def losses(self, batch: Batch) -> tuple[tuple[Tensor, Tensor, Tensor], Terms]:
        """Of encoder, decoder and discriminator, each for its own parameters only; and the terms."""
        x, y = batch["x"], self.condition_of(batch)
        inference = self.inference(x, y)
        z = inference.posterior.rsample((1,))
        kl = self.kl(inference, z).mean()
        with torch.no_grad():
            p = inference.prior
            z_p = p.sample() if p.batch_shape else p.sample((len(x),))
        made = (self.likelihood.expectation(self.decoded(each, y)) for each in (z[0], z_p))
        real, again, drawn = (self._judge(each, y) for each in (x, *made))
        assert real.features is not None
        assert again.features is not None
        features = 0.5 * (real.features - again.features).flatten(1).square().sum(dim=1).mean()
        loss = self.adversarial_loss
        game = loss.generator(again.scores, real.scores) + loss.generator(drawn.scores, real.scores)
        d_loss = loss.discriminator(real.scores, again.scores) + loss.discriminator(real.scores, drawn.scores)
        d_loss = 0.5 * d_loss
        terms = {"kl": kl, "features": features, "g_loss": game, "d_loss": d_loss}
        return (kl + features, self.feature_weight * features + game, d_loss), terms

    def _judge(self, x: Tensor, y: Tensor | None) -> Judgement:
        """What the discriminator says, in full precision."""
        found = judgement(self.discriminator(x, y))
        return Judgement._make(None if part is None else full(part) for part in found)

    # ---------------------------------------------------------------- the step

    @property
    def _groups(self) -> tuple[nn.ModuleList, ...]:
        """What learns from each of the three losses."""
        encoding = (self.encoder, self.posterior, self.prior, self.prior_embedding)
        return (
            nn.ModuleList([part for part in encoding if part is not None]),
            nn.ModuleList([self.decoder]),
            nn.ModuleList([self.discriminator]),
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """One update of each network."""
        (batches,), logs = self.split_step(batch), self.logs_this_step
        encoder_optimizer, decoder_optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        for optimizer in (encoder_optimizer, decoder_optimizer, discriminator_optimizer):
            optimizer.zero_grad()
        share = 1.0 / len(batches)
        terms: Terms = {}
        for part in batches:
            losses, found = self.losses(part)
            for loss, group in zip(losses, self._groups, strict=True):  # one graph, three sets of leaves
                self.manual_backward(loss * share, inputs=[*group.parameters()], retain_graph=loss is not losses[-1])
            terms = {key: terms.get(key, 0.0) + share * value.detach() for key, value in found.items()}
        self.step_uncounted(discriminator_optimizer)
        self.step_uncounted(encoder_optimizer)
        self.step_counted(decoder_optimizer)
        if logs:
            self.log_dict(terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    def configure_optimizers(self) -> Any:
        """The encoder's optimiser and schedule, the decoder's, and the discriminator's."""
        return make_optimizers(*zip(self._groups, self.optimizer_factories, self.scheduler_factories, strict=True))

    # ---------------------------------------------------------------- set-up

    @property
    def compared_by(self) -> KLEstimator:
        """The estimator of the divergence."""
        return self.kl

    def check_inference(self, inference: Inference) -> None:
        """The divergence must be a number."""
        super().check_inference(inference)
        kl = self.kl(inference, inference.posterior.rsample((1,)))
        self.check_finite(kl.mean(), f"the divergence by {type(self.kl).__name__}")

    def check_data(self, data: "DataModule") -> None:
        """The discriminator must give each sample a score and features."""
        super().check_data(data)
        examples = {name: value[:2].to(self.device) for name, value in data.examples(2).items()}
        name = f"model.init_args.discriminator is {type(self.discriminator).__name__}, which"
        with torch.no_grad(), torch.random.fork_rng(devices=[]), evaluating(self):
            x, y = examples["x"].to(self.dtype), self.condition_of(examples)
            try:
                judged = self._judge(x, y)
            except RuntimeError as error:
                shape = tuple(data.sample_shape)
                raise UserError(
                    f"{name} cannot read data's samples of shape {shape}: make its sizes agree with those of"
                    f" data.init_args ({error})"
                ) from error
        if judged.features is None:
            raise UserError(f"{name} gives no features to compare samples by: use one that does, such as DCGAN's")
        if judged.scores.shape != (2,):
            raise UserError(
                f"{name} turns 2 samples into scores of shape {tuple(judged.scores.shape)} instead of (2,): make its"
                " sizes agree with those of data.init_args, and judge each sample by itself"
            )
