"""FactorVAE (Kim, Mnih, "Disentangling by Factorising", ICML 2018).

A variational autoencoder whose latents shall be independent: the total correlation of q(z) = E_x q(z | x) is penalised
(eq. 2), and estimated by a discriminator D whose score is the logit of z being from q(z) rather than from the product
of its marginals q̄(z) (eq. 3):

    L   = −E log p(x | z) + E KL(q(z | x) ‖ p(z)) + γ E_q(z) D(z)
    L_D = ½ E_q(z) softplus(−D(z)) + ½ E_q̄(z) softplus(D(z))

Draws from q̄ are codes of other samples whose entries were exchanged within the batch, each dimension for itself.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn.functional import softplus

from lightning_gen.adversarial import AdversarialModel, frozen
from lightning_gen.distributions import DiagonalNormal, StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.latent_discriminator import check_scores, scores
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds import ClosedForm, Inference, KLEstimator
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.networks.base import Discriminator
from lightning_gen.optimizers import make_optimizers
from lightning_gen.variational import VariationalModel


class FactorVAE(VariationalModel, AdversarialModel):
    """A variational autoencoder and a discriminator of its latents, by manual optimisation.

    One step is one update of both and consumes two batches of data (algorithm 2): one for L and the first term of L_D,
    one for the second. Both gradients are taken before either update; the paper encodes the second batch after it.
    Of several processes each exchanges the latents of its own batch alone, so that the product of marginals is mixed
    from that many; gradients are averaged as elsewhere.

    Args:
        encoder: samples to features of the posterior.
        decoder: makes the network from latents to the likelihood's parameters; conditional when its `num_classes` is
            set.
        latent_dim: number of latent variables, ≥ 1.
        likelihood: p(x | z).
        discriminator: makes the discriminator from the length of a latent, such as `MLPDiscriminator`; unconditional.
        optimizer: makes the optimiser of the autoencoder from its parameters.
        discriminator_optimizer: makes the discriminator's.
        tc_weight: γ, ≥ 0; the paper has 2 to 100.
        kl: how the divergence is computed; in closed form if unset.
        posterior: makes q(z | x).
        prior: makes p(z).
        prior_features: length of a learnt embedding of `y` that the prior's parameters are linear in; None for a prior
            that does not depend on `y`.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        scheduler: makes the autoencoder's learning rate schedule, stepped once a step; None for a constant rate.
        discriminator_scheduler: the same for the discriminator.
        accumulate_grad_batches: pairs of batches whose gradients are averaged for one update, ≥ 1.
        gradient_clip_val: largest norm of either gradient; None to leave it.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, latents of prior and posterior have different
            lengths, the posterior has no density, or a number is out of its range; before training, if kl, posterior,
            prior, likelihood and data do not go together.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        discriminator: Callable[[int], Discriminator],
        optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        tc_weight: float = 10.0,
        kl: KLEstimator | None = None,
        posterior: Callable[[int, int | None], VariationalLayer] = DiagonalNormal,
        prior: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        prior_features: int | None = None,
        sample_noise: bool = False,
        scheduler: LRSchedulerCallable | None = None,
        discriminator_scheduler: LRSchedulerCallable | None = None,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        compile: list[str] | None = None,
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
            compile=compile,
            attributes=attributes,
        )
        check_at_least(self, 0, tc_weight=tc_weight)
        self.discriminator = discriminator(self.posterior.sample_dim)
        self.tc_weight = tc_weight
        self.kl = kl or ClosedForm()
        self.optimizer_factories = optimizer, discriminator_optimizer
        self.scheduler_factories = scheduler, discriminator_scheduler
        if self.discriminator.num_classes is not None:
            raise UserError(
                f"num_classes of model.init_args.discriminator is {self.discriminator.num_classes}, but it judges the"
                " latents of all classes together: leave it unset"
            )

    # ---------------------------------------------------------------- the two losses

    def autoencoder_loss(self, batch: Batch, latents: list[Tensor]) -> tuple[Tensor, Terms]:
        """L of a batch and its terms; the latents z (B, d) that were drawn are added to a list, without gradient."""
        inference = self.inference(batch["x"], self.condition_of(batch))
        z = inference.posterior.rsample((1,))
        latents.append(z[0].detach())
        reconstruction = inference.log_likelihood(z).mean()
        kl = self.kl(inference, z).mean()
        total_correlation = scores(self.discriminator, z[0]).mean()
        terms = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl, "tc": total_correlation}
        return kl - reconstruction + self.tc_weight * total_correlation, terms

    def discriminator_loss(self, batch: Batch, latents: list[Tensor]) -> tuple[Tensor, Terms]:
        """L_D, from the first of some latents, which is taken out of the list, and those of another batch."""
        with torch.no_grad():
            others = permute_dimensions(self.posterior_of(batch["x"], self.condition_of(batch)).sample())
        real, fake = scores(self.discriminator, latents.pop(0)), scores(self.discriminator, others)
        loss = 0.5 * softplus(-real).mean() + 0.5 * softplus(fake).mean()
        return loss, {"d_loss": loss}

    # ---------------------------------------------------------------- the step

    @property
    def batches_per_step(self) -> int:
        """Two for each accumulation."""
        return 2 * self.accumulate_grad_batches

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """One update of the discriminator and one of the autoencoder, by gradients at the same point."""
        (first, second), logs = self.split_step(batch), self.logs_this_step
        optimizer, discriminator_optimizer = self.optimizers()  # type: ignore[attr-defined]
        latents: list[Tensor] = []
        with frozen(self.discriminator):
            terms = self.backward_mean(optimizer, first, partial(self.autoencoder_loss, latents=latents))
        terms |= self.backward_mean(discriminator_optimizer, second, partial(self.discriminator_loss, latents=latents))
        self.step_uncounted(discriminator_optimizer)
        self.step_counted(optimizer)
        if logs:
            self.log_dict(terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    def configure_optimizers(self) -> Any:
        """The autoencoder's optimiser and schedule, then the discriminator's."""
        parts = (self.encoder, self.posterior, self.decoder, self.likelihood, self.prior, self.prior_embedding)
        networks = (nn.ModuleList([part for part in parts if part is not None]), self.discriminator)
        return make_optimizers(*zip(networks, self.optimizer_factories, self.scheduler_factories, strict=True))

    # ---------------------------------------------------------------- set-up

    @property
    def compared_by(self) -> KLEstimator:
        """The estimator of the divergence."""
        return self.kl

    def check_inference(self, inference: Inference) -> None:
        """The discriminator must judge latents, and the divergence be a number."""
        super().check_inference(inference)
        z = inference.posterior.rsample((1,))
        self.check_finite(self.kl(inference, z).mean(), f"the divergence by {type(self.kl).__name__}")
        check_scores(self.discriminator, z[0], None)


def permute_dimensions(z: Tensor) -> Tensor:
    """(B, d) with the entries of each column in an order of its own, by torch's global generator (algorithm 1)."""
    return z.gather(0, torch.rand(z.shape, device=z.device).argsort(dim=0))
