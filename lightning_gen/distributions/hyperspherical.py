"""Latents on the unit sphere: von Mises–Fisher and uniform (Davidson et al., "Hyperspherical VAEs", UAI 2018).

Densities are with respect to the surface measure of S^{d−1} ⊂ ℝ^d; d is the number of coordinates, not of degrees of
freedom.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl
from torch.nn.functional import normalize, softplus

from lightning_gen.distributions.base import Parameters, VariationalLayer, unconditional
from lightning_gen.distributions.pushforward import Pushforward, refuse_divergence
from lightning_gen.distributions.special import bessel_ratio, log_bessel, normal_cdf
from lightning_gen.distributions.spherical_angles import NUM_PROPOSALS, angle_speed, first_angle, precise, proposals
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.precision import full


class SphericalDistribution(Pushforward):
    """A distribution on the sphere of which `loc` (…, d) is a direction."""

    def __init__(self, loc: Tensor, validate_args: bool | None = None) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    @property
    def log_area(self) -> float:
        """Of the surface, 2π^{d/2}/Γ(d/2)."""
        half = self.event_shape[0] / 2
        return math.log(2) + half * math.log(math.pi) - math.lgamma(half)


class UniformSphereDistribution(SphericalDistribution):
    """The uniform distribution on the sphere.

    Args:
        loc: (…, d), of any values: the shape, type and device of samples.
        validate_args: as torch's distributions have it.
    """

    arg_constraints: ClassVar = {"loc": constraints.real}
    support = constraints.real_vector

    def push(self, noise: Tensor) -> Tensor:
        """A normal vector, of length one."""
        return normalize(noise, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats, the same everywhere."""
        return value.new_full(torch.broadcast_shapes(value.shape, self.loc.shape)[:-1], -self.log_area)

    @property
    def mean(self) -> Tensor:
        """0, which is not on the sphere."""
        return torch.zeros_like(self.loc)


class VonMisesFisherDistribution(SphericalDistribution):
    """p(z) = exp(κ μᵀz) κ^{d/2−1} / ((2π)^{d/2} I_{d/2−1}(κ)).

    Samples are z = μ cos θ + v sin θ with v uniform among the directions orthogonal to μ, and cos θ by the rejection
    sampling of Wood, "Simulation of the von Mises Fisher Distribution", Communications in Statistics 23, 1994. A fixed
    number of proposals is made for each draw, of which the first accepted counts.

    The gradient is exact, unlike that of the accepted proposal alone, to which a term for the acceptance would have to
    be added (Naesseth et al., AISTATS 2017): ∂θ/∂κ = −(∂F/∂κ)/p(θ), with F the distribution function of θ (Figurnov et
    al., "Implicit Reparameterization Gradients", NeurIPS 2018).

    Args:
        loc: (…, d) μ, of length 1; d ≥ 2.
        concentration: (…) κ > 0.
        validate_args: as torch's distributions have it.
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real_vector

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        batch = torch.broadcast_shapes(loc.shape[:-1], concentration.shape)
        self.concentration = concentration.expand(batch)
        super().__init__(loc.expand(*batch, loc.shape[-1]), validate_args=validate_args)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Three numbers for each proposal, and those of a vector."""
        return (3 * NUM_PROPOSALS + self.event_shape[0],)

    def push(self, noise: Tensor) -> Tensor:
        """(…, d) points of the sphere."""
        numbers, vector = noise.split([3 * NUM_PROPOSALS, self.event_shape[0]], -1)
        kappa = precise(self.concentration)
        first, second, third = normal_cdf(precise(numbers)).chunk(3, -1)
        with torch.no_grad():
            angle = first_angle(*proposals(first, second, third, kappa.unsqueeze(-1), self.event_shape[0]))
            speed = angle_speed(angle, kappa, bessel_ratio(self._order, kappa), self.event_shape[0])
        angle = (angle + speed * (kappa - kappa.detach())).to(self.loc.dtype).unsqueeze(-1)
        across = normalize(vector - (vector * self.loc).sum(-1, keepdim=True) * self.loc, dim=-1)
        return angle.cos() * self.loc + angle.sin() * across

    @property
    def _order(self) -> float:
        return self.event_shape[0] / 2 - 1

    @property
    def _log_normaliser(self) -> Tensor:
        """Log of E[exp(κ (μᵀz − 1))] under the uniform distribution."""
        return log_bessel(self._order, precise(self.concentration))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats; `value` (…, d) must be on the sphere."""
        # μᵀz − 1 without loss of digits where z is close to μ
        cosine = -0.5 * (value - self.loc).square().sum(-1)
        return self.concentration * cosine - self._log_normaliser.to(value.dtype) - self.log_area

    @property
    def mean(self) -> Tensor:
        """A(κ)μ with A = I_{d/2}(κ)/I_{d/2−1}(κ), within the sphere."""
        return bessel_ratio(self._order, precise(self.concentration)).to(self.loc.dtype).unsqueeze(-1) * self.loc

    @property
    def mode(self) -> Tensor:
        """μ."""
        return self.loc


class UniformSphere(VariationalLayer):
    """The uniform distribution on the unit sphere, the prior of hyperspherical autoencoders; nothing is learnt.

    Args:
        latent_dim: number d ≥ 2 of coordinates.
        num_features: None; it does not depend on anything.
    """

    is_euclidean = False
    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        check_at_least(self, 2, latent_dim=latent_dim)
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape ()."""
        return UniformSphereDistribution(self.zeros, validate_args=False)


class VonMisesFisher(VariationalLayer):
    """A von Mises–Fisher distribution: μ a direction, κ = min_concentration + softplus, linear in features or learnt.

    The prior must be on the sphere too: `UniformSphere`, or another of these.

    Args:
        latent_dim: number d ≥ 2 of coordinates.
        num_features: length F of the features; None for learnt μ and κ.
        min_concentration: > 0; κ is at least this.
        max_concentration: κ is at most this.
    """

    is_euclidean = False

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        min_concentration: float = 1.0,
        max_concentration: float = 1e4,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_at_least(self, 2, latent_dim=latent_dim)
        check_above(self, 0, min_concentration=min_concentration)
        check_above(self, min_concentration, max_concentration=max_concentration)
        self.bounds = min_concentration, max_concentration
        start = torch.zeros(latent_dim + 1)
        if num_features is None:
            start[0] = 1  # some direction: there is none at 0
        self.parameters_of = Parameters(num_features, latent_dim + 1, start=start)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        values = full(self.parameters_of(h))
        low, high = self.bounds
        kappa = (low + softplus(values[..., -1])).clamp(max=high)
        return VonMisesFisherDistribution(normalize(values[..., :-1], dim=-1), kappa, validate_args=False)

    def mean(self, distribution: Distribution) -> Tensor:
        """The mode μ, which is on the sphere as samples are, and the mean is not."""
        return distribution.mode


refuse_divergence(SphericalDistribution, "is on the unit sphere alone")


@register_kl(VonMisesFisherDistribution, VonMisesFisherDistribution)
def _(q: VonMisesFisherDistribution, p: VonMisesFisherDistribution) -> Tensor:
    kappa, other = precise(q.concentration), precise(p.concentration)
    ratio, cosine = bessel_ratio(q._order, kappa), (precise(q.loc) * precise(p.loc)).sum(-1)
    value = kappa * (ratio - 1) - q._log_normaliser - other * (ratio * cosine - 1) + p._log_normaliser
    return value.to(q.loc.dtype)


@register_kl(VonMisesFisherDistribution, UniformSphereDistribution)
def _(q: VonMisesFisherDistribution, p: UniformSphereDistribution) -> Tensor:
    """κ A(κ) + log C(κ) less that of the uniform density."""
    kappa = precise(q.concentration)
    return (kappa * (bessel_ratio(q._order, kappa) - 1) - q._log_normaliser).to(q.loc.dtype)


@register_kl(UniformSphereDistribution, VonMisesFisherDistribution)
def _(q: UniformSphereDistribution, p: VonMisesFisherDistribution) -> Tensor:
    kappa = precise(p.concentration)
    return (kappa + p._log_normaliser).to(p.loc.dtype).expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))


@register_kl(UniformSphereDistribution, UniformSphereDistribution)
def _(q: UniformSphereDistribution, p: UniformSphereDistribution) -> Tensor:
    return q.loc.new_zeros(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
