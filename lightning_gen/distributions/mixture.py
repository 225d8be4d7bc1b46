"""Mixtures of normal distributions, as prior and as posterior."""

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal
from torch.nn.functional import pad

from lightning_gen.distributions.base import Parameters, VariationalLayer
from lightning_gen.distributions.seeded import draw, take
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.noise import Noise
from lightning_gen.precision import exact, full

_NUMBERS_AT_A_TIME = 2**24


class Mixture(MixtureSameFamily):
    """torch's mixture, whose log-densities of many values are computed some at a time."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of (…, d) values."""
        value = full(value)
        rows = len(value) if value.ndim > len(self.batch_shape) + len(self.event_shape) else 0
        most = _NUMBERS_AT_A_TIME // max(self._num_component * value[:1].numel(), 1)
        if rows <= max(most, 1):
            return super().log_prob(value)
        return torch.cat([super(Mixture, self).log_prob(part) for part in value.split(max(most, 1))])


class NormalsMixture(Mixture):
    """Σ_k π_k N(μ_k, diag σ_k²), with gradients through samples by implicit reparameterisation.

    A sample z of whatever origin is turned into uniform numbers u by the distribution functions of each coordinate
    given those before it, u = S(z; θ); they stay as they are when θ changes, so

        ∂z/∂θ = −(∂S/∂z)⁻¹ ∂S/∂θ

    (Graves, "Stochastic backpropagation through mixture density distributions", arXiv:1607.05690; Figurnov et al.,
    "Implicit reparameterization gradients", NeurIPS 2018, eq. 5 and §3.2).

    Args:
        mixture_distribution: of batch shape (B,) or (), K categories.
        component_distribution: independent normal distributions of batch shape (B, K) or (K,).
    """

    has_rsample = True

    def sample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """(…, d), without a gradient."""
        with torch.no_grad():
            logits = self.mixture_distribution.logits
            shape = (*sample_shape, *self.batch_shape)
            # the largest of Gumbel numbers: torch.multinomial would wait for the device
            waiting = torch.empty((*shape, logits.shape[-1]), dtype=logits.dtype, device=logits.device).exponential_()
            choice = (logits - waiting.log()).argmax(-1)
            normals = self._normals
            loc, scale = take(normals.loc, choice, 1), take(normals.scale, choice, 1)
            return loc + scale * torch.randn_like(loc)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008
        """(…, d), with a gradient."""
        return self.reparameterised(self.sample(sample_shape))

    def reparameterised(self, z: Tensor) -> Tensor:
        """The samples (…, d) as they are, with the gradient that they have as functions of the parameters."""
        z = z.detach()
        if not torch.is_grad_enabled():
            return z
        with exact(z):
            u, jacobian = self._uniform(z)
            change = torch.linalg.solve_triangular(jacobian, (u - u.detach()).unsqueeze(-1), upper=False)
            return z - change.squeeze(-1)

    def _uniform(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """S(z; θ) (…, d), and ∂S/∂z (…, d, d), lower triangular and without a gradient.

        Where a number of S is above a half, it is 1 less: the same gradient, and no digits are lost to the 1.
        """
        normals = self._normals
        t = (z.unsqueeze(-2) - normals.loc) / normals.scale  # (…, K, d)
        log_density = -0.5 * t.square() - normals.scale.log()
        before = pad(log_density[..., :-1].cumsum(-1), (1, 0))
        # how likely each component is, given the coordinates before
        weight = (self.mixture_distribution.logits.unsqueeze(-1) + before).softmax(-2)
        side = torch.where((weight * _cdf(t)).sum(-2, keepdim=True) > 0.5, -1.0, 1.0).to(t)
        below = side * _cdf(side * t)
        u = (weight * below).sum(-2, keepdim=True)
        with torch.no_grad():
            density = (weight * log_density.exp()).sum(-2) / math.sqrt(2 * math.pi)
            slopes = -t / normals.scale  # ∂ log N_k / ∂z
            jacobian = ((weight * (below - u)).mT @ slopes).tril(-1)
            jacobian = jacobian + torch.diag_embed(density.clamp(min=torch.finfo(z.dtype).tiny))
        return u.squeeze(-2), jacobian

    @property
    def _normals(self) -> Normal:
        return self.component_distribution.base_dist  # type: ignore[attr-defined]


def _cdf(t: Tensor) -> Tensor:
    """Φ, with its digits kept where it is small."""
    return 0.5 * torch.erfc(-t / math.sqrt(2))


@draw.register
def _(distribution: NormalsMixture, noise: Noise, num: int) -> Tensor:
    return distribution.reparameterised(draw.dispatch(MixtureSameFamily)(distribution, noise, num))


def mixture(logits: Tensor, components: Distribution) -> Mixture:
    """The mixture of K components of batch shape (B, K) or (K,), with weights softmax(logits) of that shape."""
    diagonal = isinstance(components, Independent) and isinstance(components.base_dist, Normal)
    kind = NormalsMixture if diagonal else Mixture
    return kind(Categorical(logits=logits, validate_args=False), components, validate_args=False)


class NormalMixture(VariationalLayer):
    """Σ_k π_k N(μ_k, diag σ_k²) (Dilokthanakul et al., arXiv:1611.02648, have it as prior, §2).

    The divergence of or from a mixture has no closed form: a bound needs `MonteCarlo` there.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt π, μ and σ.
        num_components: K, ≥ 1.
        spread: standard deviation of the μ_k at first, so that components differ; ≥ 0.
        min_log_variance: log σ² is at least this.
        max_log_variance: and at most this.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        num_components: int = 10,
        spread: float = 1.0,
        min_log_variance: float = -20.0,
        max_log_variance: float = 20.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_at_least(self, 1, num_components=num_components)
        check_at_least(self, 0, spread=spread)
        check_above(self, min_log_variance, max_log_variance=max_log_variance)
        self.bounds = min_log_variance, max_log_variance
        self.sizes = [1, latent_dim, latent_dim]
        start = torch.zeros(num_components, sum(self.sizes))
        start[:, 1 : 1 + latent_dim].normal_(0.0, spread)
        self.parameters_of = Parameters(num_features, *start.shape, start=start)

    def forward(self, h: Tensor | None = None) -> Mixture:
        """Of batch shape (B,), or ()."""
        logits, loc, log_variance = self.parameters_of(h).split(self.sizes, dim=-1)
        scale = (0.5 * log_variance.clamp(*self.bounds)).exp()
        return mixture(logits.squeeze(-1), Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False))
