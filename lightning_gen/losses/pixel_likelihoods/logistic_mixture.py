"""The mixture of discretised logistic distributions of PixelCNN++, whose means of later channels know earlier ones."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from lightning_gen.choice import choose
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.likelihoods.base import of_samples
from lightning_gen.losses.likelihoods.discretised import log_bins
from lightning_gen.losses.likelihoods.location_scale import bounded_below
from lightning_gen.losses.pixel_likelihoods.base import PixelLikelihood
from lightning_gen.precision import full


class LogisticMixturePixels(PixelLikelihood):
    """P(x | before) = Σ_m π_m Π_c P_c(x_c; μ̃_mc, s_mc), P_c a discretised logistic distribution.

    (Salimans et al., "PixelCNN++", ICLR 2017, eqs. 1–3.) One turn draws all channels. Means are linear in the channels
    before, with three coefficients α, β, γ of each component for red, green and blue:

        μ̃_r = μ_r,   μ̃_g = μ_g + α x_r,   μ̃_b = μ_b + β x_r + γ x_g

    and tanh of what the network gives for coefficients. A pixel has M (1 + 2C + C (C − 1)/2) parameters.

    Args:
        levels: L values from −1 to 1, equally spaced: 256 for images stored as bytes, 17 in scikit-learn's digits.
        num_components: M, ≥ 1.
        min_log_scale: log s stays above it, smoothly.

    Raises:
        UserError: if there are fewer than two levels, or no component.
    """

    def __init__(self, levels: int = 256, num_components: int = 10, min_log_scale: float = -7.0) -> None:
        super().__init__(levels)
        check_at_least(self, 1, num_components=num_components)
        self.num_components = num_components
        self.min_log_scale = min_log_scale

    def num_turns(self, channels: int) -> int:
        """One."""
        return 1

    def num_parameters(self, channels: int) -> int:
        """M (1 + 2C + C (C − 1)/2)."""
        return self.num_components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def num_uniforms(self, channels: int) -> int:
        """For the component, and for each channel."""
        return 1 + channels

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, P, 1, H, W) parameters and (N, C, H, W) samples."""
        mixture = self._mixture(parameters[:, :, 0], x.shape[1])
        k = self.levels.index(full(x)).to(mixture.means)
        values = self.levels.value(k)
        means = torch.stack([mixture.mean(c, values) for c in range(x.shape[1])], dim=2)
        log_p = log_bins(self.levels, k.unsqueeze(1), means, mixture.inverse_scales).sum(2)
        return of_samples((log_softmax(mixture.logits, 1) + log_p).logsumexp(1))

    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """(N, C) values of levels: a component first, then a channel after the other from it."""
        channels = uniform.shape[1] - 1
        mixture = self._mixture(parameters, channels)
        u = uniform.to(mixture.means)
        component = choose(mixture.logits / temperature, u[:, 0]).unsqueeze(1)
        offsets = u[:, 1:].logit() * temperature
        x = torch.zeros_like(offsets)
        for c in range(channels):
            mean = mixture.mean(c, x).gather(1, component)[:, 0]
            inverse_scale = mixture.inverse_scales[:, :, c].gather(1, component)[:, 0]
            x[:, c] = self.quantise(mean + offsets[:, c] / inverse_scale)
        return x

    def _mixture(self, parameters: Tensor, channels: int) -> "_Mixture":
        pairs, m = channels * (channels - 1) // 2, self.num_components
        sizes = [m, m * channels, m * channels, m * pairs]
        logits, means, log_scales, coefficients = full(parameters).split(sizes, dim=1)
        each, pair = (m, channels), (m, pairs)
        inverse_scales = (-bounded_below(log_scales, self.min_log_scale)).exp().unflatten(1, each)
        return _Mixture(logits, means.unflatten(1, each), inverse_scales, coefficients.unflatten(1, pair).tanh())


class _Mixture(NamedTuple):
    """Logits (N, M, …), means and 1/s (N, M, C, …), coefficients (N, M, C (C − 1)/2, …)."""

    logits: Tensor
    means: Tensor
    inverse_scales: Tensor
    coefficients: Tensor

    def mean(self, channel: int, x: Tensor) -> Tensor:
        """μ̃ of a channel, (N, M, …), given those before it in x (N, C, …)."""
        first = channel * (channel - 1) // 2
        given = self.coefficients[:, :, first : first + channel] * x[:, None, :channel]
        return self.means[:, :, channel] + given.sum(2)
