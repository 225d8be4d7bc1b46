"""A normal distribution that follows the codes of training."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from lightning_gen.distributions.base import VariationalLayer, unconditional
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise


class RunningNormal(VariationalLayer):
    """N(μ, Σ) with the running mean and full covariance of the codes that it was shown; N(0, I) before any.

        μ' = μ + α(m − μ),   Σ' = (1 − α)(Σ + α(m − μ)(m − μ)ᵀ) + αC,   α = max(1 − decay, 1/t)

    for the batch t = 1, 2, … of codes with mean m and covariance C: those of the mixture of what was seen and the
    batch, so that the first 1/(1 − decay) batches weigh the same and later ones replace earlier ones.

    Args:
        latent_dim: number d of latent variables.
        num_features: None; it does not depend on anything.
        decay: in [0, 1); the share of what was seen before that remains.
    """

    loc: Tensor
    covariance: Tensor
    num_batches: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None, decay: float = 0.99) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        if not 0 <= decay < 1:
            raise UserError(f"RunningNormal.decay is {decay}: it must be at least 0 and below 1")
        self.decay = decay
        self.register_buffer("loc", torch.zeros(latent_dim))
        self.register_buffer("covariance", torch.eye(latent_dim))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (); where codes lie in a plane, with a deviation of 10⁻³ of the largest across it."""
        values, vectors = self._spectrum()
        floor = values.max().clamp(min=1e-6) * 1e-6
        # the triangle of the QR decomposition of a root, which needs no matrix of full rank to rounding, as Cholesky's
        upper = torch.linalg.qr((vectors * values.clamp(min=floor).sqrt()).mT).R
        return MultivariateNormal(self.loc, scale_tril=upper.mT * upper.diagonal().sign(), validate_args=False)

    def draw(self, noise: Noise) -> Tensor:
        """(n, d) μ + Σ^½ ε, one a stream; within the plane where codes lie in one."""
        values, vectors = self._spectrum()
        root = (vectors * values.sqrt()) @ vectors.mT  # the symmetric one, which no sign of an eigenvector changes
        return self.loc + noise.normal(self.latent_dim, dtype=root.dtype) @ root

    @torch.no_grad()
    def observe(self, mean: Tensor, second_moment: Tensor) -> None:
        """Follow a batch of codes z.

        Args:
            mean: (d,) of z over the batch, and over all processes.
            second_moment: (d, d) of z zᵀ, likewise.
        """
        self.num_batches += 1
        alpha = (1 / self.num_batches.to(self.loc)).clamp(min=1 - self.decay)
        covariance = second_moment - mean.outer(mean)
        apart = mean - self.loc
        self.covariance.copy_((1 - alpha) * (self.covariance + alpha * apart.outer(apart)) + alpha * covariance)
        self.loc.add_(alpha * apart)

    def _spectrum(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.covariance)
        return values.clamp(min=0), vectors
