"""Laplace likelihoods: absolute errors."""

from abc import ABC
from math import log

import torch
from torch import Tensor

from lightning_gen.losses.arguments import check_above
from lightning_gen.losses.likelihoods.location_scale import LocationScale, bounded_below
from lightning_gen.noise import Noise


class _Laplace(LocationScale, ABC):
    def log_density(self, standardised: Tensor) -> Tensor:
        """−|ε| − log 2."""
        return -standardised.abs() - log(2)

    def standard(self, noise: Noise, shape: tuple[int, ...]) -> Tensor:
        """By the inverse of the distribution function."""
        u = noise.uniform(*shape) - 0.5
        return -u.sign() * (-2 * u.abs()).clamp(min=2**-24 - 1).log1p()  # finite at the ends of the interval


class Laplace(_Laplace):
    """exp(−|x − μ| / b) / 2b with one b that is given.

    Args:
        scale: b, in units of x, > 0.

    Raises:
        UserError: if the scale is not above 0.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        check_above(self, 0, scale=scale)
        self.scale = scale

    def log_scale(self, parameters: Tensor) -> Tensor:
        """The given one, ()."""
        return torch.full((), log(self.scale), dtype=parameters.dtype, device=parameters.device)


class LearnedLaplace(_Laplace):
    """exp(−|x − μ| / b) / 2b with μ and log b of each entry from the decoder.

    Args:
        min_log_scale: log b stays above it, smoothly.
    """

    num_parameters = 2

    def __init__(self, min_log_scale: float = -7.0) -> None:
        super().__init__()
        self.min_log_scale = min_log_scale

    def log_scale(self, parameters: Tensor) -> Tensor:
        """Of each entry, (N, …)."""
        return bounded_below(parameters[:, 1], self.min_log_scale)
