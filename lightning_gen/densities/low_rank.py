"""Covariances of low rank: mixtures of probabilistic principal component analysers and of factor analysers.

A sample is x = μ + W z + ε with r factors z ~ N(0, I) and noise ε ~ N(0, Ψ), so that Σ = W Wᵀ + Ψ. Both kinds are
estimated by expectation-maximisation over the factors, inside that over the components (Tipping, Bishop, "Mixtures of
probabilistic principal component analysers", Neural Computation 11, 1999, appendix C; Ghahramani, Hinton, "The EM
algorithm for mixtures of factor analyzers", CRG-TR-96-1, 1996, without their joint step for μ and W: means go first, as
Tipping and Bishop's). Nothing as large as D × D is made.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.densities.base import wide
from lightning_gen.densities.covariance import Covariance, Moments, columns
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.noise import Noise

_LOG_2_PI = math.log(2 * math.pi)


class LowRankCovariance(Covariance, ABC):
    """Σ = W Wᵀ + Ψ, W (D, r), Ψ diagonal.

    With β = Wᵀ Σ⁻¹, of the parameters as they are, and N S = Σ_n w_n (x_n − μ)(x_n − μ)ᵀ about the new means,

        W ← S βᵀ (I − β W + β S βᵀ)⁻¹,   Ψ ← diag(N S − W β N S + c Ψ₀)/(N + c);

    the prior is of Ψ alone.

    Args:
        num_normals: M.
        dim: D.
        rank: r, from 1 to D − 1.

    Raises:
        UserError: if the rank is out of its range.
    """

    log_noise: nn.Parameter

    def __init__(self, num_normals: int, dim: int, rank: int = 4) -> None:
        check_at_least(self, 1, rank=rank)
        if rank >= dim:
            raise UserError(
                f"{type(self).__name__}.rank is {rank}, but samples have {dim} entries: it must be smaller, or use"
                " FullCovariance"
            )
        super().__init__(num_normals, dim)
        self.rank = rank
        self.loadings = nn.Parameter(torch.randn(num_normals, dim, rank) / math.sqrt(rank))

    @property
    @abstractmethod
    def noise_variance(self) -> Tensor:
        """Ψ, (M, D) in the type to compute in."""

    @abstractmethod
    def take_noise(self, sums: Tensor, sizes: Tensor) -> None:
        """Let Ψ be what the sums (M, D), over sizes (M,), make it."""

    def log_normal(self, x: Tensor, means: Tensor) -> Tensor:
        """(B, M), by Woodbury's identity: only matrices of r × r are inverted."""
        scale, scaled, cholesky = self._scaled()
        z = (x.unsqueeze(1) - means) / scale
        t = torch.einsum("bmd,mdr->mrb", z, scaled)
        explained = torch.linalg.solve_triangular(cholesky, t, upper=False).square().sum(1).T
        log_det = scale.log().sum(1) + cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
        return -0.5 * (z.square().sum(2) - explained + self.dim * _LOG_2_PI) - log_det

    def deviations(self, noise: Noise, choice: Tensor) -> Tensor:
        """W z + ε."""
        factors = columns(wide(self.loadings), choice, wide(noise.normal(self.rank)))
        return factors + self.noise_variance.sqrt()[choice] * wide(noise.normal(self.dim))

    def statistics(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        """Σ w x², (M, D), and Σ w x (β x)ᵀ, (M, D, r)."""
        factors = torch.einsum("bd,mrd->mbr", x, self.beta)
        return [weights.T @ x.square(), x.T @ (weights.T.unsqueeze(-1) * factors)]

    def squares(self, sums: list[Tensor]) -> Tensor:
        """The first sums."""
        return sums[0]

    @property
    def beta(self) -> Tensor:
        """β = Wᵀ Σ⁻¹ (M, r, D), which makes the expected factors of a deviation."""
        scale, scaled, cholesky = self._scaled()
        return torch.cholesky_solve(scaled.mT, cholesky) / scale.unsqueeze(1)

    @torch.no_grad()
    def maximise(self, sums: list[Tensor], moments: Moments) -> None:
        """W where there are samples, then Ψ."""
        beta, loadings, counts = self.beta, wide(self.loadings), moments.counts[:, None, None]
        mean_factors = (beta @ moments.means.unsqueeze(2)).mT  # β μ, (M, 1, r)
        first_factors = (beta @ moments.first.unsqueeze(2)).mT
        means, first = moments.means.unsqueeze(2), moments.first.unsqueeze(2)
        cross = sums[1] - first * mean_factors - means * first_factors + counts * means * mean_factors  # N S βᵀ
        identity = torch.eye(self.rank, dtype=beta.dtype, device=beta.device)
        second = counts * (identity - beta @ loadings) + beta @ cross
        found = torch.linalg.solve_ex(second, cross.mT)[0].mT
        right = (moments.counts > 0) & found.flatten(1).isfinite().all(1)
        found = torch.where(right[:, None, None], found, loadings)
        unexplained = moments.centred_squares(sums[0]) - (found * cross).sum(2)
        self.loadings.copy_(found)
        self.take_noise(unexplained + moments.prior_count * moments.prior_variance, moments.sizes)

    @torch.no_grad()
    def start(self, x: Tensor, weights: Tensor, means: Tensor, generator: torch.Generator) -> None:
        """Random sums of deviations for W, so that W Wᵀ is on average the covariance; as much noise beside it."""
        shape = (self.num_normals, len(x), self.rank)
        signs = torch.randn(shape, generator=generator, dtype=torch.float64).to(x) * weights.T.unsqueeze(-1)
        sizes = weights.sum(0)[:, None, None].clamp(min=1)
        sums = x.T @ signs - means.unsqueeze(2) * signs.sum(1, keepdim=True)
        self.loadings.copy_(sums / (sizes * self.rank).sqrt())
        ones = weights.sum(0)
        squares = weights.T @ x.square() - ones[:, None] * means.square()
        self.take_noise(squares.clamp(min=0) + _LEAST, ones + 1)

    def _scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """ψ^½ (M, D), Ψ^−½ W (M, D, r), and the Cholesky factor of I + Wᵀ Ψ⁻¹ W (M, r, r)."""
        scale = self.noise_variance.sqrt()
        scaled = wide(self.loadings) / scale.unsqueeze(2)
        identity = torch.eye(self.rank, dtype=scale.dtype, device=scale.device)
        return scale, scaled, torch.linalg.cholesky_ex(identity + scaled.mT @ scaled)[0]


_LEAST = 1e-12
"""What keeps the noise of constant entries above 0 until the prior has its say."""


class ProbabilisticPCA(LowRankCovariance):
    """Σ = W Wᵀ + σ² I: D r + 1 numbers (Tipping, Bishop, 1999). Ψ's equation is averaged over entries.

    Args:
        num_normals: M.
        dim: D.
        rank: r, from 1 to D − 1.

    Raises:
        UserError: if the rank is out of its range.
    """

    def __init__(self, num_normals: int, dim: int, rank: int = 4) -> None:
        super().__init__(num_normals, dim, rank)
        self.log_noise = nn.Parameter(torch.zeros(num_normals))

    @property
    def noise_variance(self) -> Tensor:
        """σ² in every entry."""
        return wide(self.log_noise).exp().unsqueeze(1).expand(-1, self.dim)

    def take_noise(self, sums: Tensor, sizes: Tensor) -> None:
        """The mean over entries, where it is positive."""
        variance = sums.mean(1) / sizes
        self.log_noise.copy_(torch.where(variance > 0, variance.log(), self.log_noise))


class FactorAnalysis(LowRankCovariance):
    """Σ = W Wᵀ + diag ψ: D (r + 1) numbers (Ghahramani, Hinton, 1996, with noise for each component).

    Args:
        num_normals: M.
        dim: D.
        rank: r, from 1 to D − 1.

    Raises:
        UserError: if the rank is out of its range.
    """

    def __init__(self, num_normals: int, dim: int, rank: int = 4) -> None:
        super().__init__(num_normals, dim, rank)
        self.log_noise = nn.Parameter(torch.zeros(num_normals, dim))

    @property
    def noise_variance(self) -> Tensor:
        """ψ."""
        return wide(self.log_noise).exp()

    def take_noise(self, sums: Tensor, sizes: Tensor) -> None:
        """As they are, where they are positive."""
        variance = sums / sizes.unsqueeze(1)
        self.log_noise.copy_(torch.where(variance > 0, variance.log(), self.log_noise))
