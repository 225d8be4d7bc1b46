"""Mixtures of normal distributions that are given, as priors onto which codes are moved; nothing is learnt."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from lightning_gen.distributions.base import VariationalLayer, unconditional
from lightning_gen.distributions.mixture import mixture
from lightning_gen.errors import UserError
from lightning_gen.latents import slerp
from lightning_gen.losses.arguments import check_above, check_at_least


class FixedMixture(VariationalLayer):
    """1/K Σ_k N(μ_k, σ² I) with means that are given.

    Args:
        latent_dim: number d of latent variables.
        num_features: None; it does not depend on features.
        means: μ_k, K ≥ 1 lists of d numbers.
        scale: σ > 0.

    Raises:
        UserError: if there are no means, they do not have d numbers each, or the scale is not above 0.
    """

    means: Tensor
    scales: Tensor

    def __init__(
        self, latent_dim: int, num_features: int | None = None, *, means: list[list[float]], scale: float = 1.0
    ) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        name = type(self).__name__
        if not means:
            raise UserError(f"{name}.means is empty: give the mean of each component")
        for mean in means:
            if len(mean) != latent_dim:
                raise UserError(f"{name}.means has {len(mean)} numbers in one of them: give latent_dim, {latent_dim}")
        check_above(self, 0, scale=scale)
        self.hold(torch.tensor(means, dtype=torch.get_default_dtype()), torch.full((latent_dim,), float(scale)))

    def hold(self, means: Tensor, scales: Tensor) -> None:
        """Keep means (K, d), and standard deviations (d,) that all components share."""
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("scales", scales, persistent=False)

    @property
    def num_components(self) -> int:
        """K."""
        return len(self.means)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        scales = self.scales.expand_as(self.means)
        components = Independent(Normal(self.means, scales, validate_args=False), 1, validate_args=False)
        return mixture(self.means.new_zeros(self.num_components), components)

    def components(self, k: Tensor) -> Distribution:
        """The component k (B,) int64 of each sample, of batch shape (B,)."""
        means = self.means.index_select(0, k)
        return Independent(Normal(means, self.scales.expand_as(means), validate_args=False), 1, validate_args=False)

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """On the straight line: components have no common centre to turn around."""
        return torch.lerp(a, b, t.to(a)[:, None])


class RingMixture(FixedMixture):
    """K components with means on a circle in the plane of the first two latents, equally spaced; others are N(0, 1).

    Makhzani et al. ("Adversarial Autoencoders", arXiv:1511.05644, §2.3) move codes onto ten normal distributions in the
    plane, theirs longer along the radius than across it; here they are as wide as long.

    Args:
        latent_dim: number d of latent variables, ≥ 2.
        num_features: None; it does not depend on features.
        num_components: K, ≥ 1.
        radius: of the circle, ≥ 0.
        scale: σ of the first two latents, > 0.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        num_components: int = 10,
        radius: float = 4.0,
        scale: float = 0.5,
    ) -> None:
        if latent_dim < 2:
            raise UserError(f"latent_dim is {latent_dim}: RingMixture needs at least 2")
        check_at_least(self, 1, num_components=num_components)
        check_at_least(self, 0, radius=radius)
        check_above(self, 0, scale=scale)
        angles = [2 * math.pi * k / num_components for k in range(num_components)]
        rest = [0.0] * (latent_dim - 2)
        means = [[radius * math.cos(angle), radius * math.sin(angle), *rest] for angle in angles]
        super().__init__(latent_dim, num_features, means=means)
        self.scales[:2] = scale

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Around the circle."""
        return slerp(a, b, t)
