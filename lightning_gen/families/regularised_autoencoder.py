"""Regularised autoencoders (Ghosh et al., "From Variational to Deterministic Autoencoders", ICLR 2020).

Codes without noise; instead of it a regulariser of the decoder keeps samples of nearby codes alike (eqs. 9–11):

    L = E_x [ −log p(x | z) + β ½‖z‖² ] + λ L_REG(decoder),   z = E(x)

A Gaussian likelihood of variance ½ makes the first term the squared error, but for a constant. There is no prior: a
density is fitted to the codes afterwards (§4).
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.distributions import Deterministic, RunningNormal
from lightning_gen.latent_variables import LatentVariableModel
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.decoder_regularisers import DecoderRegulariser
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.losses.processes import mean_over_processes
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.noise import Noise
from lightning_gen.one_loss import OneLossModel


class RegularisedAutoencoder(LatentVariableModel, OneLossModel):
    """A deterministic autoencoder with a smooth decoder.

    Samples are drawn from a normal distribution with the running mean and covariance of the codes of training (see
    `RunningNormal`), which lags behind the weights, and knows the raw ones where others are averaged. A density fitted
    to the codes of a finished model is better, as in the paper: see the family `LatentDensity`.

    Args:
        encoder: samples to features of the code.
        decoder: makes the network from codes to the likelihood's parameters; conditional when its `num_classes` is set.
        latent_dim: length of a code, ≥ 1.
        likelihood: p(x | z), of the reconstruction.
        optimizer: makes the optimiser from the parameters.
        regulariser: λ L_REG, such as `DecoderWeightDecay`; None for a plain autoencoder (RAE without, AE for β = 0).
        code_weight: β, ≥ 0.
        code_decay: of the running mean and covariance of the codes, in [0, 1).
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`; regularisers run eagerly.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, or a number is out of its range.
    """

    prior: RunningNormal
    shows_codes = True

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        optimizer: OptimizerCallable,
        regulariser: DecoderRegulariser | None = None,
        code_weight: float = 1e-4,
        code_decay: float = 0.99,
        sample_noise: bool = False,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        def running(latent_dim: int, num_features: int | None) -> RunningNormal:
            return RunningNormal(latent_dim, num_features, code_decay)

        super().__init__(
            encoder,
            decoder,
            latent_dim,
            likelihood,
            Deterministic,
            running,
            sample_noise=sample_noise,
            optimizer=optimizer,
            scheduler=scheduler,
            compile=compile,
            attributes=attributes,
        )
        check_at_least(self, 0, code_weight=code_weight)
        self.code_weight = code_weight
        self.regulariser = regulariser
        if regulariser is not None:
            regulariser.prepare(self.decoder)

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L, the mean over the batch, and its terms."""
        x, y = batch["x"], self.condition_of(batch)
        z = self.latents_of(x, y)
        if self.training:
            self._follow(z)
        reconstruction = self.likelihood(self.decoded(z, y), x).mean()
        size = 0.5 * z.square().sum(dim=1).mean()
        terms = {"reconstruction": reconstruction, "code_size": size}
        total = self.code_weight * size - reconstruction
        if self.regulariser is not None:
            with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext():
                terms["regulariser"] = self.regulariser(self.decoder, lambda codes: self.decoder(codes, y), z)
            total = total + terms["regulariser"]
        return total, terms

    @torch.no_grad()
    def _follow(self, z: Tensor) -> None:
        """Let the distribution of codes follow those of all processes."""
        z = z.to(self.prior.loc)
        moments = torch.cat((z.mean(dim=0)[None], z.mT @ z / len(z)))
        mean, second_moment = mean_over_processes(moments).split((1, self.latent_dim))
        self.prior.observe(mean[0], second_moment)

    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """(n, d) draws from the running normal distribution."""
        return self.prior.draw(noise)
