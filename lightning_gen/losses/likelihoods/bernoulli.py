"""Likelihoods of two values, and of values between them."""

from math import log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods.base import Likelihood, of_samples, seen
from lightning_gen.noise import Noise
from lightning_gen.precision import full

_SMALL = 0.25
"""|y| below which series stand for sinh(y)/y and its relatives: five terms are exact to float64 there."""


class Bernoulli(Likelihood):
    """log p(x | z) = Σ_j b_j log p_j + (1 − b_j) log(1 − p_j),  b = (x + 1)/2 ∈ {0, 1},  p = sigmoid(output).

    For binary data (see the data sources `Thresholded`, `Binarised`): of grey values it would not sum to one.
    """

    discrete = True

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, 1, …) logits and (N, …) samples in {-1, 1}."""
        logits = full(parameters[:, 0])
        b = (x + 1) / 2
        return of_samples(b * logits + logsigmoid(-logits))

    def mean(self, parameters: Tensor) -> Tensor:
        """2p − 1."""
        return parameters[:, 0].sigmoid() * 2 - 1

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """±1."""
        p = full(parameters[:, 0]).sigmoid()
        return torch.where(noise.uniform(*p.shape[1:]).to(p) < p, 1.0, -1.0).to(p)

    def check(self, x: Tensor) -> None:
        """There may be two values, −1 and 1."""
        if not bool(((x == -1) | (x == 1)).all()):
            raise UserError(
                f"the likelihood Bernoulli needs binary data, -1 or 1, but data has {seen(x)}: wrap data in Thresholded"
                " or Binarised, or use another likelihood such as ContinuousBernoulli or DiscretisedLogistic"
            )


class ContinuousBernoulli(Likelihood):
    """p(b | z) = C(λ) λᵇ (1 − λ)¹⁻ᵇ,  b = (x + 1)/2 ∈ [0, 1],  λ = sigmoid(output), C makes it a density.

    (Loaiza-Ganem, Cunningham, "The continuous Bernoulli", NeurIPS 2019.) With y half the logit of λ it is
    p(x | z) = e^{yx} y / (2 sinh y), which includes the factor ½ of a density with respect to x, not b: log 2 nats less
    an entry. For grey values; being a density, it may be above one.
    """

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, 1, …) logits and (N, …) samples in [-1, 1]."""
        y = full(parameters[:, 0]) / 2
        return of_samples(x * y - _log_sinhc(y) - log(2))

    def mean(self, parameters: Tensor) -> Tensor:
        """Coth y − 1/y."""
        y = full(parameters[:, 0]) / 2
        small, s = y.abs() < _SMALL, y.square()
        series = y * (1 / 3 - s * (1 / 45 - s * (2 / 945 - s * (1 / 4725 - s * 2 / 93555))))
        safe = torch.where(small, 1.0, y)
        return torch.where(small, series, 1 / safe.tanh() - 1 / safe)

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """By the inverse of the distribution function, b = log(1 + u (e^{2y} − 1)) / 2y for y < 0; mirrored above."""
        y = full(parameters[:, 0]) / 2
        u = noise.uniform(*y.shape[1:]).to(y)
        a = -2 * y.abs().clamp(min=1e-6)  # no overflow where it is negative, and no 0/0
        x = 2 * (u * a.expm1()).log1p() / a - 1
        return torch.where(y > 0, -x, x).clamp(-1, 1)

    def check(self, x: Tensor) -> None:
        """Values must be in [-1, 1]."""
        if not bool(((x >= -1) & (x <= 1)).all()):
            raise UserError(
                f"the likelihood ContinuousBernoulli needs data between -1 and 1, but data has {seen(x)}: use another"
                " likelihood such as Gaussian"
            )


def _log_sinhc(y: Tensor) -> Tensor:
    """Log(sinh(y)/y), with gradients that are right at 0, too."""
    small, s = y.abs() < _SMALL, y.square()
    series = s * (1 / 6 - s * (1 / 180 - s * (1 / 2835 - s * (1 / 37800 - s / 467775))))
    safe = torch.where(small, 1.0, y.abs())
    return torch.where(small, series, safe + (-(-2 * safe).expm1()).log() - (2 * safe).log())
