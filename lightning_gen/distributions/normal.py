"""Normal distributions, as prior and as posterior."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from lightning_gen.distributions.base import Parameters, VariationalLayer, unconditional
from lightning_gen.distributions.multivariate import Full, LowRank
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above


class StandardNormal(VariationalLayer):
    """N(0, I), the prior of Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014; nothing is learnt."""

    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        return Independent(Normal(self.zeros, torch.ones_like(self.zeros), validate_args=False), 1)


class DiagonalNormal(VariationalLayer):
    """N(μ, diag σ²), log σ² linear in the features (Kingma, Welling, ICLR 2014, appendix C.2).

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt μ and σ.
        min_log_variance: log σ² is at least this.
        max_log_variance: and at most this.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        min_log_variance: float = -20.0,
        max_log_variance: float = 20.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_above(self, min_log_variance, max_log_variance=max_log_variance)
        self.bounds = min_log_variance, max_log_variance
        self.parameters_of = Parameters(num_features, 2, latent_dim)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        loc, log_variance = self.parameters_of(h).unbind(-2)
        scale = (0.5 * log_variance.clamp(*self.bounds)).exp()
        return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)


class LowRankNormal(VariationalLayer):
    """N(μ, W Wᵀ + diag σ²) with W of r columns: correlated latents at r numbers each more than independent ones.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt μ, σ and W.
        rank: r, from 1 to d.
        min_log_variance: log σ² is at least this.
        max_log_variance: and at most this.

    Raises:
        UserError: if the rank is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        rank: int = 2,
        min_log_variance: float = -20.0,
        max_log_variance: float = 20.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        if not 1 <= rank <= latent_dim:
            raise UserError(f"LowRankNormal.rank is {rank}: it must be from 1 to latent_dim, {latent_dim}")
        check_above(self, min_log_variance, max_log_variance=max_log_variance)
        self.bounds = min_log_variance, max_log_variance
        start = torch.zeros(2 + rank, latent_dim)
        start[2:].normal_(0.0, 0.1)  # at W = 0 there would be no gradient with respect to it
        self.parameters_of = Parameters(num_features, 2 + rank, latent_dim, start=start)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        numbers = self.parameters_of(h)
        loc, log_variance = numbers[..., 0, :], numbers[..., 1, :]
        return LowRank(loc, numbers[..., 2:, :].mT, log_variance.clamp(*self.bounds).exp())


class FullNormal(VariationalLayer):
    """N(μ, L Lᵀ), L lower triangular: d (d + 3) / 2 numbers; the logarithm of the diagonal of L is linear in features.

    Kingma, Welling, "An introduction to variational autoencoders", 2019, §2.5.1.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt μ and L.
        min_log_variance: twice the logarithm of the diagonal is at least this.
        max_log_variance: and at most this.
    """

    below: Tensor

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        min_log_variance: float = -20.0,
        max_log_variance: float = 20.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_above(self, min_log_variance, max_log_variance=max_log_variance)
        self.bounds = min_log_variance, max_log_variance
        self.register_buffer("below", torch.tril_indices(latent_dim, latent_dim, -1), persistent=False)
        self.sizes = [latent_dim, latent_dim, self.below.shape[1]]
        self.parameters_of = Parameters(num_features, sum(self.sizes))

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        loc, log_variance, below = self.parameters_of(h).split(self.sizes, dim=-1)
        tril = torch.diag_embed((0.5 * log_variance.clamp(*self.bounds)).exp())
        tril[..., self.below[0], self.below[1]] = below
        return Full(loc, scale_tril=tril, validate_args=False)
