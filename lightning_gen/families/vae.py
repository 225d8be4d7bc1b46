"""Variational autoencoders (Kingma, Welling, ICLR 2014; Rezende, Mohamed, Wierstra, ICML 2014).

A decoder gives p(x | z), an encoder an approximate posterior q(z | x), and both maximise a bound on log p(x):

    log p(x) ≥ E_q[log p(x | z)] − KL(q(z | x) ‖ p(z))

Likelihood, posterior, prior and bound are four choices of their own.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.distributions import DiagonalNormal, StandardNormal, VariationalLayer
from lightning_gen.losses.bounds import ELBO, Bound, Inference
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.model import Batch, Terms
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
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, a prior on none, latents of prior and posterior
            have different lengths, or the posterior has no density; before training, if bound, posterior, prior,
            likelihood and data do not go together.
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
        sample_noise: bool = False,
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
            sample_noise,
            optimizer=optimizer,
            scheduler=scheduler,
            compile=compile,
            attributes=attributes,
        )
        self.bound = bound or ELBO()

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """The bound's loss, nats a sample."""
        return self.bound(self.inference(batch["x"], self.condition_of(batch)))

    @property
    def compared_by(self) -> Bound:
        """The bound."""
        return self.bound

    def check_data(self, data: "DataModule") -> None:
        """Evaluate the bound once, so that parts that do not fit each other are found now."""
        num_train, processes = len(data.split("train")), 1 if self._trainer is None else self._trainer.world_size
        self.bound.check(data.batch_size * processes, num_train)
        self.bound.learn(num_train)
        super().check_data(data)

    def check_inference(self, inference: Inference) -> None:
        """The bound must have a value, too."""
        super().check_inference(inference)
        self.check_finite(self.bound(inference)[0], f"the bound {type(self.bound).__name__}")
