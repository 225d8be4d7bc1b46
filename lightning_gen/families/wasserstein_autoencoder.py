"""Wasserstein autoencoders (Tolstikhin et al., "Wasserstein Auto-Encoders", ICLR 2018), with the MMD (WAE-MMD).

The optimal transport cost of the data to a model that decodes z ~ p is the least cost of reconstruction among encoders
whose codes are distributed as p (theorem 1). The constraint is relaxed to a penalty (eq. 4, algorithm 2):

    L = E_x E_q(z | x) c(x, G(z)) + λ MMD²_k(q(z), p(z)),   q(z) = E_x q(z | x),   c = −log p(x | z)

A Gaussian likelihood of variance ½ makes c the squared error ‖x − G(z)‖², but for a constant. For the penalty by a
discriminator (WAE-GAN, algorithm 1) see `AdversarialAutoencoder`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lightning_gen.code_matching import CodeMatchingModel
from lightning_gen.distributions import Deterministic, StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.divergences import InverseMultiquadric, Kernel, maximum_mean_discrepancy
from lightning_gen.losses.likelihoods import Likelihood
from lightning_gen.losses.processes import gather
from lightning_gen.model import Batch, Terms
from lightning_gen.networks.autoencoders import Decoder, Encoder
from lightning_gen.one_loss import OneLossModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class WassersteinAutoencoder(CodeMatchingModel, OneLossModel):
    """An autoencoder whose codes a maximum mean discrepancy moves onto a prior.

    The discrepancy is that of the codes of all processes together.

    Args:
        encoder: samples to features of the code.
        decoder: makes the network from codes to the likelihood's parameters; conditional when its `num_classes` is set.
        latent_dim: length of a code, ≥ 1.
        likelihood: p(x | z), whose negative logarithm is the cost.
        optimizer: makes the optimiser from the parameters.
        kernel: k; the inverse multiquadric of the paper if unset.
        mmd_weight: λ, ≥ 0; the paper has 10 for MNIST and 100 for CelebA, in units of the squared error of pixels.
        posterior: makes q(z | x): codes without noise, or a distribution such as `DiagonalNormal`.
        prior: makes p(z); any that has a sampler, such as `RingMixture`. Parameters stay what they are at first.
        sample_noise: whether samples have the likelihood's noise instead of its mean; reconstructions never have.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        compile: submodules to hand to `torch.compile`, such as `[encoder, decoder]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Raises:
        UserError: if networks are conditioned on different classes, the prior moves with the encoder, latents of
            prior and posterior have different lengths, or the weight is negative.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Callable[[int, int], Decoder],
        latent_dim: int,
        likelihood: Likelihood,
        optimizer: OptimizerCallable,
        kernel: Kernel | None = None,
        mmd_weight: float = 10.0,
        posterior: Callable[[int, int | None], VariationalLayer] = Deterministic,
        prior: Callable[[int, int | None], VariationalLayer] = StandardNormal,
        scheduler: LRSchedulerCallable | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
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
            optimizer=optimizer,
            scheduler=scheduler,
            compile=compile,
            attributes=attributes,
        )
        check_at_least(self, 0, mmd_weight=mmd_weight)
        self.kernel = kernel or InverseMultiquadric()
        self.mmd_weight = mmd_weight

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """L, the mean over the batch, and its terms."""
        x, y = batch["x"], self.condition_of(batch)
        z = self.codes_of(x, y)
        cost = self.reconstruction_loss_of(z, x, y)
        mmd = maximum_mean_discrepancy(gather(self.prior_codes(len(z))), gather(z), self.kernel)
        return cost + self.mmd_weight * mmd, {"reconstruction": -cost, "mmd": mmd}

    def check_data(self, data: "DataModule") -> None:
        """A discrepancy needs two samples at least."""
        super().check_data(data)
        if data.batch_size < 2:
            raise UserError(
                f"data.init_args.batch_size is {data.batch_size}: a discrepancy of distributions needs at least 2"
            )
