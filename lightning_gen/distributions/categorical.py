"""Discrete latents: one-hot vectors, side by side in one row.

There are `latent_dim` variables with `num_categories` values each, so a latent has latent_dim · num_categories numbers.
"""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, register_kl

from lightning_gen.distributions.base import Parameters, VariationalLayer, unconditional
from lightning_gen.distributions.seeded import draw, gumbel, hardest
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.noise import Noise


class OneHots(Distribution):
    """Independent categorical variables as one-hot vectors, with the straight-through gradient.

    Samples are hard; their gradient is that of the probabilities (Bengio et al., arXiv:1308.3432, §4).

    Args:
        logits: (…, d, K) unnormalised log-probabilities.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)
    has_rsample = True

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape[:-2], torch.Size((logits.shape[-2] * logits.shape[-1],)), validate_args=False)
        self.logits = logits.log_softmax(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "OneHots":
        """The same, of a larger batch."""
        return self.like(self.logits.expand(*batch_shape, *self.logits.shape[-2:]))

    def like(self, logits: Tensor) -> "OneHots":
        """One of the same kind with other logits."""
        return OneHots(logits)

    @property
    def mean(self) -> Tensor:
        """The probabilities, (…, d · K)."""
        return self.logits.exp().flatten(-2)

    @property
    def mode(self) -> Tensor:
        """The most likely one-hot vectors, (…, d · K)."""
        return hardest(self.logits).flatten(-2)

    def perturbed(self, noise: Tensor) -> Tensor:
        """Samples (…, d, K) made of standard Gumbel noise (…, d, K)."""
        probs = self.logits.exp()
        return hardest(self.logits + noise) + (probs - probs.detach())

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """(…, d · K), with a gradient."""
        shape = (*sample_shape, *self.logits.shape)
        waiting = torch.empty(shape, dtype=self.logits.dtype, device=self.logits.device).exponential_()
        return self.perturbed(-waiting.log()).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Σ_jk z_jk log π_jk of (…, d · K) values: nats of one-hot vectors; of relaxed ones the same, no density."""
        return (value.unflatten(-1, self.logits.shape[-2:]) * self.logits).sum((-2, -1))

    def entropy(self) -> Tensor:
        """Nats."""
        return -(self.logits.exp() * self.logits).sum((-2, -1))


class RelaxedOneHots(OneHots):
    """Points in the simplex near one-hot vectors: z = softmax((log π + g) / τ), g standard Gumbel noise.

    Jang et al., "Categorical reparameterization with Gumbel-Softmax", ICLR 2017, eq. 2; Maddison et al., "The Concrete
    distribution", ICLR 2017, eq. 10.

    Args:
        logits: (…, d, K) unnormalised log-probabilities.
        temperature: τ, above 0.
    """

    def __init__(self, logits: Tensor, temperature: float) -> None:
        super().__init__(logits)
        self.temperature = temperature

    def like(self, logits: Tensor) -> OneHots:
        """One of the same kind with other logits."""
        return RelaxedOneHots(logits, self.temperature)

    def perturbed(self, noise: Tensor) -> Tensor:
        """Samples (…, d, K) made of standard Gumbel noise (…, d, K)."""
        return ((self.logits + noise) / self.temperature).softmax(-1)


@draw.register
def _(distribution: OneHots, noise: Noise, num: int) -> Tensor:
    logits = distribution.logits
    return distribution.perturbed(gumbel(noise, num, logits.shape[-2:], logits.dtype)).flatten(-2)


@register_kl(OneHots, OneHots)
def _kl(p: OneHots, q: OneHots) -> Tensor:
    """Σ_jk p_jk (log p_jk − log q_jk): of the categorical variables, relaxed or not (Jang et al., 2017, §4.2)."""
    return (p.logits.exp() * (p.logits - q.logits)).sum((-2, -1))


class DiscreteLayer(VariationalLayer):
    """A layer of categorical variables.

    Args:
        latent_dim: number d of variables.
        num_features: length F of the features; None for none.
        num_categories: values K of each, ≥ 2.

    Raises:
        UserError: if there are fewer than two categories.
    """

    is_euclidean = False

    def __init__(self, latent_dim: int, num_features: int | None = None, num_categories: int = 10) -> None:
        super().__init__(latent_dim, num_features)
        check_at_least(self, 2, num_categories=num_categories)
        self.num_categories = num_categories

    @property
    def sample_dim(self) -> int:
        """Numbers of all one-hot vectors, d · K."""
        return self.latent_dim * self.num_categories

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Straight: on the way the blocks are probabilities."""
        return torch.lerp(a, b, t[:, None].to(a))

    def mean(self, distribution: Distribution) -> Tensor:
        """The most likely one-hot vectors: probabilities are no latent that the decoder knows."""
        assert isinstance(distribution, OneHots)
        return distribution.mode


class UniformCategorical(DiscreteLayer):
    """All values alike, the usual prior of discrete latents; nothing is learnt. Arguments as of `DiscreteLayer`."""

    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None = None, num_categories: int = 10) -> None:
        super().__init__(latent_dim, num_features, num_categories)
        unconditional(self)
        self.register_buffer("zeros", torch.zeros(latent_dim, num_categories), persistent=False)

    def forward(self, h: Tensor | None = None) -> OneHots:
        """Of batch shape ()."""
        return OneHots(self.zeros)


class StraightThroughCategorical(DiscreteLayer):
    """Hard samples, whose gradient is that of the probabilities; also the learnt prior of any discrete posterior.

    Args:
        latent_dim: number d of variables.
        num_features: length F of the features; None for learnt probabilities, at first uniform.
        num_categories: values K of each, ≥ 2.
    """

    def __init__(self, latent_dim: int, num_features: int | None = None, num_categories: int = 10) -> None:
        super().__init__(latent_dim, num_features, num_categories)
        self.parameters_of = Parameters(num_features, latent_dim, num_categories)

    def forward(self, h: Tensor | None = None) -> OneHots:
        """Of batch shape (B,), or ()."""
        return OneHots(self.parameters_of(h))


class GumbelSoftmax(StraightThroughCategorical):
    """Samples that are relaxed in training mode and hard in evaluation mode.

    Log-probabilities are exact for hard samples, and no density of relaxed ones: bounds that are trained need the
    closed form of the divergence.

    Args:
        latent_dim: number d of variables.
        num_features: length F of the features; None for learnt probabilities, at first uniform.
        num_categories: values K of each, ≥ 2.
        temperature: τ, above 0; may be changed while training, for instance from 1 to ½ by `Anneal`.

    Raises:
        UserError: if a number is out of its range.
    """

    log_prob_fault = "are no densities of relaxed points"

    def __init__(
        self, latent_dim: int, num_features: int | None = None, num_categories: int = 10, temperature: float = 1.0
    ) -> None:
        super().__init__(latent_dim, num_features, num_categories)
        check_above(self, 0, temperature=temperature)
        self.temperature = temperature

    def forward(self, h: Tensor | None = None) -> OneHots:
        """Of batch shape (B,), or ()."""
        logits = self.parameters_of(h)
        return RelaxedOneHots(logits, self.temperature) if self.training else OneHots(logits)
