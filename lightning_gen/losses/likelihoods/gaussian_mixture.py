"""Mixtures of densities of each entry, whose numbers a network gives."""

from abc import ABC, abstractmethod
from math import log, pi

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from lightning_gen.choice import choose
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.likelihoods.base import Likelihood, check_finite, in_model_form, of_samples
from lightning_gen.losses.likelihoods.location_scale import bounded_below
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class LocationScaleMixture(Likelihood, ABC):
    """log p(x | z) = Σ_j log Σ_m π_jm f((x_j − μ_jm)/s_jm)/s_jm; 3M numbers of each entry: logits, means, log-scales.

    Means are what the network gives plus offsets, evenly from −spread to spread, so that components differ from the
    start. For data of any range; images that are shown or drawn are clamped to [-1, 1].

    Args:
        num_components: M, ≥ 1.
        min_log_scale: log s stays above it, smoothly.
        spread: in units of x, ≥ 0.

    Raises:
        UserError: if there is no component, or the spread is negative.
    """

    offsets: Tensor

    def __init__(self, num_components: int = 10, min_log_scale: float = -7.0, spread: float = 1.0) -> None:
        super().__init__()
        check_at_least(self, 1, num_components=num_components)
        check_at_least(self, 0, spread=spread)
        self.num_parameters = 3 * num_components
        self.min_log_scale = min_log_scale
        offsets = torch.linspace(-spread, spread, num_components) if num_components > 1 else torch.zeros(1)
        self.register_buffer("offsets", offsets, persistent=False)

    @abstractmethod
    def log_density(self, standardised: Tensor) -> Tensor:
        """Log f, of each entry and component."""

    @abstractmethod
    def standard(self, noise: Noise, shape: tuple[int, ...]) -> Tensor:
        """Draws (n, *shape) from f."""

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats, of a density with respect to x, from (N, 3M, …) outputs and (N, …) samples."""
        logits, means, log_scales = self.components(parameters)
        log_p = self.log_density((x.unsqueeze(1) - means) * (-log_scales).exp()) - log_scales
        return of_samples((log_softmax(logits, 1) + log_p).logsumexp(1))

    def components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means μ and log-scales log s, (N, M, …) each, from (N, 3M, …) outputs."""
        logits, means, log_scales = full(parameters).chunk(3, dim=1)
        offsets = self.offsets.to(means).view(-1, *[1] * (means.dim() - 2))
        return logits, means + offsets, bounded_below(log_scales, self.min_log_scale)

    def expectation(self, parameters: Tensor) -> Tensor:
        """Σ_m π_m μ_m, wherever it is."""
        logits, means, _ = self.components(parameters)
        return (logits.softmax(1) * means).sum(1)

    def mean(self, parameters: Tensor) -> Tensor:
        """Σ_m π_m μ_m; of images, clamped."""
        return in_model_form(self.expectation(parameters))

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """μ + sε of a component that is drawn first."""
        logits, means, log_scales = self.components(parameters)
        shape = tuple(means.shape[2:])
        component = choose(logits, noise.uniform(*shape)).unsqueeze(1)
        location, scale = means.gather(1, component)[:, 0], log_scales.gather(1, component)[:, 0].exp()
        return in_model_form(location + scale * self.standard(noise, shape).to(location))

    def check(self, x: Tensor) -> None:
        """Values must be finite."""
        check_finite(self, x)


class GaussianMixture(LocationScaleMixture):
    """A mixture of Gaussians of each entry (Bishop, "Mixture density networks", 1994).

    With an autoregressive network RNADE (Uria, Murray, Larochelle, NIPS 2013).

    Args:
        num_components: M, ≥ 1.
        min_log_scale: log σ stays above it, smoothly. Of data with few levels the density has no other upper bound.
        spread: means are at first evenly between −spread and spread, in units of x, ≥ 0.

    Raises:
        UserError: if there is no component, or the spread is negative.
    """

    def log_density(self, standardised: Tensor) -> Tensor:
        """−ε²/2 − ½ log 2π."""
        return -0.5 * (standardised.square() + log(2 * pi))

    def standard(self, noise: Noise, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers."""
        return noise.normal(*shape)


class LogisticMixture(LocationScaleMixture):
    """A mixture of logistic densities of each entry: `DiscretisedLogisticMixture` for continuous data.

    f(ε) = e^{−ε}/(1 + e^{−ε})², whose tails are heavier than a Gaussian's.

    Args:
        num_components: M, ≥ 1.
        min_log_scale: log s stays above it, smoothly.
        spread: means are at first evenly between −spread and spread, in units of x, ≥ 0.

    Raises:
        UserError: if there is no component, or the spread is negative.
    """

    def log_density(self, standardised: Tensor) -> Tensor:
        """−ε − 2 log(1 + e^{−ε}), by |ε|, in which it is even."""
        size = standardised.abs()
        return -size - 2 * softplus(-size)

    def standard(self, noise: Noise, shape: tuple[int, ...]) -> Tensor:
        """By the inverse of the distribution function."""
        return noise.uniform(*shape).logit()
