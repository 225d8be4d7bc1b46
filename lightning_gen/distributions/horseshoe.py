"""The horseshoe: a spike at 0 with tails of a Cauchy distribution (Carvalho, Polson, Scott, Biometrika 97, 2010).

z = μ + τ λ ε with λ half-Cauchy and ε standard normal: most variables are shrunk to μ, a few hardly.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Cauchy, Distribution, Independent, MixtureSameFamily, StudentT, constraints

from lightning_gen.distributions.base import VariationalLayer, unconditional
from lightning_gen.distributions.pushforward import Pushforward, ScaledLayer
from lightning_gen.distributions.special import log_scaled_exp1
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above


class HorseshoeDistribution(Pushforward):
    """p(z) = e^a E₁(a) / (τ √(2π³)),  a = ((z − μ)/τ)²/2.

    The density goes to infinity at μ as −log |z − μ|, and neither mean nor variance exists. There is no closed form of
    a divergence from it, so bounds need `MonteCarlo`; close to μ the gradient of log p grows almost as 1/|z − μ|, and
    so that of the estimate has heavy tails: clip gradients.

    Args:
        loc: μ.
        scale: τ > 0, of the same shape or one that broadcasts.
        validate_args: as torch's distributions have it.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Three numbers: two for λ."""
        return (3,)

    def push(self, noise: Tensor) -> Tensor:
        """μ + τ λ ε from three normal numbers, since λ is the ratio of two."""
        above, below, epsilon = noise.unbind(-1)
        return self.loc + self.scale * (above / below.abs().clamp(min=1e-8)) * epsilon

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats; finite at μ too, where the density of the next numbers stands for the infinite one."""
        a = ((value - self.loc) / self.scale).square() / 2
        a = a.clamp(4 * torch.finfo(a.dtype).tiny, torch.finfo(a.dtype).max / 4)
        return log_scaled_exp1(a) - self.scale.log() - 0.5 * math.log(2 * math.pi**3)

    @property
    def mean(self) -> Tensor:
        """Does not exist: NaN, as torch's Cauchy distribution has it."""
        return torch.full_like(self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        """Infinite."""
        return torch.full_like(self.loc, math.inf)

    @property
    def mode(self) -> Tensor:
        """μ, which is the median too."""
        return self.loc


_HEAVY = (HorseshoeDistribution, Cauchy, StudentT)
"""Distributions whose log-density has an expectation under a horseshoe."""


class _HorseshoeLayer(VariationalLayer):
    def mean(self, distribution: Distribution) -> Tensor:
        """The median μ: there is no mean."""
        return distribution.mode

    def check_prior(self, prior: Distribution) -> None:
        """Log-densities of normal and of Laplace tails have no expectation, since a horseshoe has not even a mean.

        Raises:
            UserError: if the prior has other tails than a horseshoe, or a mixture of horseshoes.
        """
        tails = prior
        while isinstance(tails, Independent | MixtureSameFamily):
            tails = tails.base_dist if isinstance(tails, Independent) else tails.component_distribution
        if not isinstance(tails, _HEAVY):
            raise UserError(
                f"the KL divergence of a posterior {type(self).__name__} from a prior {type(tails).__name__} is"
                " infinite, since a horseshoe has neither mean nor variance: set model.init_args.prior to Horseshoe or"
                " StandardHorseshoe"
            )


class StandardHorseshoe(_HorseshoeLayer):
    """The horseshoe around 0 with a fixed τ, for sparse latents; nothing is learnt.

    Args:
        latent_dim: number d of latent variables.
        num_features: None; it does not depend on anything.
        scale: τ > 0.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None, scale: float = 1.0) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        check_above(self, 0, scale=scale)
        self.scale = scale
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        scale = torch.full_like(self.zeros, self.scale)
        return Independent(HorseshoeDistribution(self.zeros, scale, validate_args=False), 1, validate_args=False)


class Horseshoe(_HorseshoeLayer, ScaledLayer):
    """The horseshoe around μ with scale τ, μ and log τ² linear in the features or learnt.

    As a prior, learnt or fixed, it suits a posterior of any kind, under a bound with `MonteCarlo`. As a posterior it
    needs a prior with tails as heavy, such as another horseshoe, since from any other its divergence is infinite; and a
    decoder or a likelihood that is bounded, since squares of its samples have no expectation.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt μ and τ.
        min_log_variance: log τ² is at least this.
        max_log_variance: and at most this.
    """

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        loc, scale = self.loc_and_scales(h)
        return Independent(HorseshoeDistribution(loc, scale, validate_args=False), 1, validate_args=False)
