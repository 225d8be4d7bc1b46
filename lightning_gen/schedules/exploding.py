"""Noise that is added to samples left as they are."""

import math

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.schedules.base import NoiseSchedule


class VarianceExploding(NoiseSchedule):
    """α = 1 and σ(t) = t: the time is the noise level, as Karras et al. have it.

    Networks are told ¼ ln σ. Uniform numbers are spread evenly over ln σ.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
    arXiv:2206.00364, table 1, the column "Ours".

    Args:
        sigma_min: the least noise, > 0.
        sigma_max: the most, > `sigma_min`; far above the standard deviation of the data.

    Raises:
        UserError: if they are not such numbers.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        if not 0 < sigma_min < sigma_max < math.inf:
            raise UserError(
                f"VarianceExploding.sigma_min is {sigma_min} and sigma_max {sigma_max}: both must be above 0, the"
                " former below the latter"
            )
        self.first, self.last = sigma_min, sigma_max

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 and t."""
        return torch.ones_like(t), t

    def time_of(self, ratio: Tensor) -> Tensor:
        """The ratio."""
        return ratio.clamp(self.first, self.last)

    def spread(self, u: Tensor) -> Tensor:
        """σ_min^(1 − u) σ_max^u."""
        return self.first * (u * math.log(self.last / self.first)).exp()

    def label(self, t: Tensor) -> Tensor:
        """¼ ln σ, c_noise of table 1."""
        return t.log() / 4
