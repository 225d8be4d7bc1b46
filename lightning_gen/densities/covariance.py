"""Covariances of normal distributions: how many numbers they are made of, and how they are estimated."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_gen.densities.base import wide
from lightning_gen.noise import Noise

_LOG_2_PI = math.log(2 * math.pi)


@dataclass
class Moments:
    """What the M step knows of the samples of M normal distributions, in float64.

    Attributes:
        counts: (M,) numbers of samples N, which need not be whole.
        first: (M, D) their sums.
        means: (M, D) the new means.
        prior_count: c, ≥ 0: how many samples the prior counts for.
        prior_variance: (D,) the variances ψ₀ that it believes in.
    """

    counts: Tensor
    first: Tensor
    means: Tensor
    prior_count: float
    prior_variance: Tensor

    @property
    def sizes(self) -> Tensor:
        """N + c, (M,)."""
        return self.counts + self.prior_count

    def centred_squares(self, squares: Tensor) -> Tensor:
        """Σ (x − μ)² (M, D) from Σ x² (M, D)."""
        return squares - 2 * self.means * self.first + self.counts[:, None] * self.means.square()


class Covariance(nn.Module, ABC):
    """The covariances Σ of M normal distributions in D dimensions.

    Estimation maximises log p of the samples, plus the logarithm of an inverse Wishart prior that counts as c samples,

        −(c/2) (log |Σ| + tr Σ⁻¹ Ψ₀),   Ψ₀ = diag ψ₀,

    of the noise alone where that is a part of Σ; or, where it is in steps, does not decrease it. A density makes it
    from a factory, `Callable[[int, int], Covariance]`, called with the two arguments below.

    Args:
        num_normals: M.
        dim: D.
    """

    def __init__(self, num_normals: int, dim: int) -> None:
        super().__init__()
        self.num_normals, self.dim = num_normals, dim

    @abstractmethod
    def log_normal(self, x: Tensor, means: Tensor) -> Tensor:
        """Log N(x; μ_m, Σ_m), (B, M) nats, of x (B, D) and means (M, D) in the type to compute in."""

    @abstractmethod
    def deviations(self, noise: Noise, choice: Tensor) -> Tensor:
        """Draws from N(0, Σ_m), (n, D), each of the normal distribution m that `choice` (n,) names."""

    @abstractmethod
    def statistics(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Sums over samples x (B, D) that belong to the normal distributions with weights (B, M)."""

    @abstractmethod
    def squares(self, sums: list[Tensor]) -> Tensor:
        """Of those sums, Σ w x² of each entry, (M, D)."""

    @abstractmethod
    def maximise(self, sums: list[Tensor], moments: Moments) -> None:
        """Take the covariances that follow from the sums; what has none, for lack of samples, keeps its own."""

    def start(self, x: Tensor, weights: Tensor, means: Tensor, generator: torch.Generator) -> None:
        """Prepare for the first `statistics`, if these depend on parameters; arguments as there, and means (M, D)."""


class FullCovariance(Covariance):
    """Σ = L Lᵀ: D (D + 1)/2 numbers.

    N S = Σ_n w_n (x_n − μ)(x_n − μ)ᵀ makes Σ = (N S + c Ψ₀)/(N + c).

    Args:
        num_normals: M.
        dim: D.
    """

    def __init__(self, num_normals: int, dim: int) -> None:
        super().__init__(num_normals, dim)
        self.factor = nn.Parameter(torch.zeros(num_normals, dim, dim))
        """L below the diagonal, log L on it."""

    @property
    def cholesky(self) -> Tensor:
        """L (M, D, D), lower triangular."""
        factor = wide(self.factor)
        return factor.tril(-1) + torch.diag_embed(factor.diagonal(dim1=1, dim2=2).exp())

    def log_normal(self, x: Tensor, means: Tensor) -> Tensor:
        """(B, M), by forward substitution."""
        deviation = x.T - means.unsqueeze(-1)  # (M, D, B)
        z = torch.linalg.solve_triangular(self.cholesky, deviation, upper=False)
        log_det = self.factor.diagonal(dim1=1, dim2=2).to(x).sum(1)
        return -0.5 * (z.square().sum(1).T + self.dim * _LOG_2_PI) - log_det

    def deviations(self, noise: Noise, choice: Tensor) -> Tensor:
        """L z, a column at a time, so that rounding does not depend on n, and no matrix is made for each draw."""
        return columns(self.cholesky, choice, wide(noise.normal(self.dim)))

    def statistics(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Σ w x xᵀ, (M, D, D)."""
        return [(weights.T.unsqueeze(-1) * x).mT @ x]

    def squares(self, sums: list[Tensor]) -> Tensor:
        """Their diagonals."""
        return sums[0].diagonal(dim1=1, dim2=2)

    @torch.no_grad()
    def maximise(self, sums: list[Tensor], moments: Moments) -> None:
        """The matrices that are positive definite."""
        cross = moments.first.unsqueeze(2) * moments.means.unsqueeze(1)
        outer = moments.means.unsqueeze(2) * moments.means.unsqueeze(1)
        scatter = sums[0] - cross - cross.mT + moments.counts[:, None, None] * outer
        scatter = scatter + moments.prior_count * torch.diag(moments.prior_variance)
        cholesky, failed = torch.linalg.cholesky_ex(scatter / moments.sizes[:, None, None])
        diagonal = cholesky.diagonal(dim1=1, dim2=2).log()
        found = cholesky.tril(-1) + torch.diag_embed(diagonal)
        right = (failed == 0) & found.flatten(1).isfinite().all(1)
        self.factor.copy_(torch.where(right[:, None, None], found, self.factor))


class DiagonalCovariance(Covariance):
    """Σ = diag σ²: D numbers; σ² = (Σ_n w_n (x_n − μ)² + c ψ₀)/(N + c).

    Args:
        num_normals: M.
        dim: D.
    """

    def __init__(self, num_normals: int, dim: int) -> None:
        super().__init__(num_normals, dim)
        self.log_scale = nn.Parameter(torch.zeros(num_normals, dim))

    def log_normal(self, x: Tensor, means: Tensor) -> Tensor:
        """(B, M)."""
        log_scale = self.log_scale.to(x)
        z = (x.unsqueeze(1) - means) * (-log_scale).exp()
        return -0.5 * (z.square().sum(2) + self.dim * _LOG_2_PI) - log_scale.sum(1)

    def deviations(self, noise: Noise, choice: Tensor) -> Tensor:
        """σ z."""
        scale = wide(self.log_scale).exp()
        return scale[choice] * wide(noise.normal(self.dim))

    def statistics(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Σ w x², (M, D)."""
        return [weights.T @ x.square()]

    def squares(self, sums: list[Tensor]) -> Tensor:
        """The sums."""
        return sums[0]

    @torch.no_grad()
    def maximise(self, sums: list[Tensor], moments: Moments) -> None:
        """Where they are positive."""
        prior = moments.prior_count * moments.prior_variance
        variance = (moments.centred_squares(sums[0]) + prior) / moments.sizes[:, None]
        self.log_scale.copy_(torch.where(variance > 0, 0.5 * variance.log(), self.log_scale))


def columns(matrices: Tensor, choice: Tensor, z: Tensor) -> Tensor:
    """Of matrices (M, D, r) the chosen ones (n,) times vectors z (n, r): (n, D), in an order that n has no say in."""
    total = matrices[:, :, 0][choice] * z[:, :1]
    for column in range(1, matrices.shape[2]):
        total = total + matrices[:, :, column][choice] * z[:, column, None]
    return total
