"""Likelihoods of levels that know their order: logistic distributions, integrated over each level's bin."""

from abc import ABC, abstractmethod
from functools import reduce
from operator import add

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from lightning_gen.choice import choose
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.likelihoods.base import Likelihood, of_samples
from lightning_gen.losses.likelihoods.levels import Levels
from lightning_gen.losses.likelihoods.location_scale import bounded_below
from lightning_gen.noise import Noise
from lightning_gen.precision import full

_NUMBERS_A_SAMPLE = 2**17
"""Of the table of edges and components that a mean is made of: 32 MiB for 64 samples at a time."""


class _DiscretisedLogistics(Likelihood, ABC):
    """Σ_m π_m [σ((x + h − μ_m)/s_m) − σ((x − h − μ_m)/s_m)], 2h a bin's width; the outer bins have no outer edge."""

    discrete = True

    def __init__(self, levels: int, min_log_scale: float) -> None:
        super().__init__()
        self.levels = Levels(levels, type(self).__name__)
        self.half_width = 1 / (levels - 1)
        self.min_log_scale = min_log_scale

    @abstractmethod
    def components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means μ and log-scales log s as the decoder gives them, (N, M, …) each."""

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, P, …) outputs and (N, …) samples."""
        logits, means, inverse_scales = self._distribution(parameters)
        k = self.levels.index(full(x)).unsqueeze(1).to(means)
        log_p = log_bins(self.levels, k, means, inverse_scales)
        return of_samples((log_softmax(logits, 1) + log_p).logsumexp(1))

    def mean(self, parameters: Tensor) -> Tensor:
        """The expected level's value, exactly: E[k] = Σ_k P(level > k)."""
        logits, means, inverse_scales = self._distribution(parameters)
        k = torch.arange(self.levels.count - 1, device=means.device)
        edges = ((2 * k + 1) * self.half_width - 1).to(means)
        # of a size that does not depend on the batch, as the order of additions may not
        parts = edges.split(max(_NUMBERS_A_SAMPLE // means[0].numel(), 1))
        means, inverse_scales = means.unsqueeze(-1), inverse_scales.unsqueeze(-1)
        above = reduce(add, [((means - part) * inverse_scales).sigmoid().sum(-1) for part in parts])
        return self.levels.value((logits.softmax(1) * above).sum(1))

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """The level nearest to a draw from the logistic distribution of a component that is drawn first."""
        logits, means, inverse_scales = self._distribution(parameters)
        u = noise.uniform(2, *means.shape[2:]).to(means)
        component = choose(logits, u[:, 0]).unsqueeze(1)
        draws = means.gather(1, component)[:, 0] + u[:, 1].logit() / inverse_scales.gather(1, component)[:, 0]
        return self.levels.value(self.levels.index(draws))

    def check(self, x: Tensor) -> None:
        """Values must be levels, exactly or rounded to a byte."""
        self.levels.check(x)

    def _distribution(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and 1/s, (N, M, …) each."""
        logits, means, log_scales = self.components(full(parameters))
        return logits, means, (-bounded_below(log_scales, self.min_log_scale)).exp()


class DiscretisedLogistic(_DiscretisedLogistics):
    """One logistic distribution of each entry (Kingma et al., "Improved Variational Inference", NIPS 2016).

    P(x | z) = σ((x + h − μ)/s) − σ((x − h − μ)/s) with h = 1/(L − 1); the first and last level take the tails, so that
    it sums to one (Salimans et al., "PixelCNN++", ICLR 2017, eq. 2). Two numbers of each entry: μ and log s.

    Args:
        levels: L values from −1 to 1, equally spaced: 256 for images stored as bytes.
        min_log_scale: log s stays above it, smoothly.

    Raises:
        UserError: if there are fewer than two levels.
    """

    num_parameters = 2

    def __init__(self, levels: int = 256, min_log_scale: float = -7.0) -> None:
        super().__init__(levels, min_log_scale)

    def components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One component."""
        means, log_scales = parameters.split(1, dim=1)
        return torch.zeros_like(means), means, log_scales


class DiscretisedLogisticMixture(_DiscretisedLogistics):
    """A mixture of logistic distributions of each entry (Salimans et al., "PixelCNN++", ICLR 2017, eqs. 1–2).

    As in `DiscretisedLogistic`, with M components. Colour channels are independent given z: the paper's coupling of
    them is not part of it. 3M numbers of each entry: logits, means, log-scales.

    Args:
        levels: L values from −1 to 1, equally spaced: 256 for images stored as bytes.
        num_components: M, ≥ 1.
        min_log_scale: log s stays above it, smoothly.

    Raises:
        UserError: if there are fewer than two levels, or no component.
    """

    def __init__(self, levels: int = 256, num_components: int = 5, min_log_scale: float = -7.0) -> None:
        super().__init__(levels, min_log_scale)
        check_at_least(self, 1, num_components=num_components)
        self.num_parameters = 3 * num_components

    def components(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """M of them."""
        logits, means, log_scales = parameters.chunk(3, dim=1)
        return logits, means, log_scales


def log_bins(levels: Levels, k: Tensor, means: Tensor, inverse_scales: Tensor) -> Tensor:
    """Log-probabilities of levels under logistic distributions: what these have in each level's bin.

    Args:
        levels: what they stand for; the bins of the first and the last have no outer edge.
        k: the levels, of a shape that broadcasts to that of the means.
        means: μ.
        inverse_scales: 1/s, of the same shape.
    """
    half_width = 1 / (levels.count - 1)
    distance = levels.value(k) - means
    # log(σ(u) − σ(v)) = log σ(u) + log σ(−v) + log(1 − e^{v − u}): no difference of nearly equal numbers
    upper = logsigmoid((distance + half_width) * inverse_scales)
    lower = logsigmoid((half_width - distance) * inverse_scales)
    width = (-(-2 * half_width * inverse_scales).expm1()).log()
    first, last = k == 0, k == levels.count - 1
    return upper.masked_fill(last, 0) + lower.masked_fill(first, 0) + width.masked_fill(first | last, 0)
