"""Bounds that compare the aggregated posterior with the prior (InfoVAE)."""

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds.base import Inference, Terms, check_batch
from lightning_gen.losses.bounds.elbo import ELBO
from lightning_gen.losses.bounds.kl import KLEstimator
from lightning_gen.losses.divergences import RBF, Kernel, maximum_mean_discrepancy
from lightning_gen.losses.processes import gather


class InfoVAE(ELBO):
    """−E_q[log p(x | z)] + (1 − α) KL(q(z | x) ‖ p(z)) + (α + λ − 1) MMD²(q(z), p(z)).

    (Zhao, Song, Ermon, "InfoVAE: Balancing Learning and Inference in Variational Autoencoders", AAAI 2019.) With α = 1
    it is their MMD-VAE. The discrepancy is the unbiased estimate from one latent of each sample of a batch, of all
    processes, and as many draws from the prior (of that of each sample's own class where the prior depends on it).

    Args:
        alpha: α, the weight of the information between x and z, ≤ 1.
        weight: λ, ≥ 1 − α. The discrepancy is of the order of 1, the other terms of nats a sample: the paper takes a
            λ that makes them alike.
        kernel: of the discrepancy; `RBF` if unset.
        num_samples: latents S drawn for each sample, ≥ 1; the discrepancy takes the first alone, since several latents
            of a sample are no independent draws from q(z).
        kl: how the divergence is computed; in closed form if unset.

    Raises:
        UserError: if an argument is out of its range; before training, if a batch has one sample.
    """

    def __init__(
        self,
        alpha: float = 0.0,
        weight: float = 100.0,
        kernel: Kernel | None = None,
        num_samples: int = 1,
        kl: KLEstimator | None = None,
    ) -> None:
        super().__init__(num_samples, kl)
        if not alpha <= 1:
            raise UserError(f"InfoVAE.alpha is {alpha}: it must be at most 1")
        check_at_least(self, 1 - alpha, weight=weight)
        self.alpha = float(alpha)
        self.weight = float(weight)
        self.kernel = kernel or RBF()

    def check(self, batch_size: int, num_train: int) -> None:
        """A discrepancy compares samples."""
        check_batch(self, batch_size, num_train)

    def regulariser(self, inference: Inference, z: Tensor, kl: Tensor) -> tuple[Tensor, Terms]:
        """(1 − α) KL + (α + λ − 1) MMD²."""
        p, latents = inference.prior, z[0]
        shape = latents.shape[:0] if p.batch_shape else latents.shape[:1]  # of a prior for each sample one draw each
        draws = p.rsample(shape) if p.has_rsample else p.sample(shape)
        mmd = maximum_mean_discrepancy(gather(latents), gather(draws), self.kernel)
        return (1 - self.alpha) * kl.sum() + (self.alpha + self.weight - 1) * mmd, {"mmd": mmd}
