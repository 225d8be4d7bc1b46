"""Ladder variational autoencoders: latents in levels (Sønderby et al., NeurIPS 2016, arXiv:1602.02282).

    p(x) = ∫ p(x | z_1) p(z_1 | z_2) … p(z_L) dz,     q(z | x) = q(z_L | x) Π_l q(z_l | z_{l+1}, x)

A posterior's level weights what features of x say and what the prior's level says by their precisions.
"""

from collections.abc import Callable
from functools import partial

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.distributions import Distribution

from lightning_gen.distributions.ladder import Chain, HierarchicalNormal, LadderNormal
from lightning_gen.errors import UserError
from lightning_gen.families.vae import VAE
from lightning_gen.losses.bounds import ELBO, PIWAE, Bound, Levelwise
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.networks.autoencoders import Decoder, Encoder


class LadderVAE(VAE):
    """A variational autoencoder whose latents stand one above the other.

    Latents are rows (z_1, …, z_L), the lowest level first, which alone the decoder sees. Bounds with a divergence need
    `kl: Levelwise` (or `MonteCarlo`). With the bound `BetaELBO`, β annealed from 0 to 1, it is warmed up as in the
    paper.

    Args:
        encoder: samples to features of the lowest level.
        decoder: makes the network from the lowest level's latents to the likelihood's parameters; conditional when its
            `num_classes` is set.
        latent_dims: latent variables of each level, the lowest first.
        likelihood: p(x | z_1).
        optimizer: makes the optimiser from the parameters.
        width: units of the hidden layers between levels.
        bound: what is maximised; `ELBO` with the divergence by `Levelwise` if unset.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if a level has no latents, networks are conditioned on different classes, or the bound is `PIWAE`.
    """

    posterior: LadderNormal
    divergence_estimator = "Levelwise"

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dims: list[int],
        likelihood: Likelihood,
        optimizer: OptimizerCallable,
        width: int = 256,
        bound: Bound | None = None,
        sample_noise: bool = False,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        super().__init__(
            encoder,
            decoder,
            sum(latent_dims),
            likelihood,
            optimizer,
            bound or ELBO(kl=Levelwise()),
            partial(LadderNormal, dims=latent_dims, width=width),
            partial(HierarchicalNormal, dims=latent_dims, width=width),
            sample_noise=sample_noise,
            scheduler=scheduler,
            compile=compile,
            attributes=attributes,
        )
        if isinstance(bound, PIWAE):
            raise UserError(
                "model.init_args.bound is PIWAE, which teaches encoder and prior by bounds of their own, but the"
                " posterior of a LadderVAE contains the prior's networks: use IWAE or MIWAE"
            )

    def posterior_from(self, h: Tensor, y: Tensor | None) -> Distribution:
        """q(z | x), which leans on the prior."""
        prior = self.prior_of(y)
        assert isinstance(prior, Chain)
        return self.posterior.given(h, prior)
