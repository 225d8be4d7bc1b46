"""Variational autoencoders (Kingma, Welling, ICLR 2014; Rezende, Mohamed, Wierstra, ICML 2014).

A decoder gives p(x | z), an encoder an approximate posterior q(z | x), and both maximise a bound on log p(x):

    log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

Likelihood, posterior, prior and bound are four choices of their own.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.distributions import kl_divergence

from lightning_gen.distributions import DiagonalNormal, StandardNormal, VariationalLayer
from lightning_gen.losses.bounds import ELBO, Bound
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.one_loss import OneLossModel
from lightning_gen.variational import VariationalModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class VAE(VariationalModel, OneLossModel):
    """A variational autoencoder.

    Args:
        encoder: samples to features of the posterior.
        decoder: makes the network from latents to the likelihood's parameters; conditional when its `num_classes` is
            set.
        latent_dim: number of latent variables, ≥ 1.
        likelihood: p(x | z).
        optimizer: makes the optimiser from the parameters.
        bound: what is maximised.
        posterior: makes q(z | x).
        prior: makes p(z).
        prior_features: length of a learnt embedding of `y` that the prior's parameters are linear in; None for a prior
            that does not depend on `y`.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, a prior on none, or latents of prior and posterior
            have different lengths.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        optimizer: OptimizerCallable,
        bound: Bound | None = None,
        posterior: Callable[[int, int | None], VariationalLayer] = DiagonalNormal,
        prior: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        prior_features: int | None = None,
        scheduler: LRSchedulerCallable | None = None,
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
            optimizer=optimizer,
            scheduler=scheduler,
            compile=compile,
            attributes=attributes,
        )
        self.bound = bound or ELBO()

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The bound's loss, nats a sample."""
        return self.bound(self.inference(batch["x"], self.condition_of(batch)))

    def check_data(self, data: "DataModule") -> None:
        """Evaluate the bound once, so that a posterior and a prior that do not fit each other are found now."""
        super().check_data(data)
        self.bound.learn(len(data.split("train")))
        examples = {name: value[:2].to(self.device) for name, value in data.examples(2).items()}
        with torch.no_grad(), torch.random.fork_rng(devices=[]), evaluating(self):
            inference = self.inference(examples["x"].to(self.dtype), self.condition_of(examples))
            self.bound(inference)
            with suppress(NotImplementedError):  # one that is infinite is said to be; an estimate would not show it
                kl_divergence(inference.posterior, inference.prior)
