"""At which times a velocity is learnt."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_gen.losses.arguments import check_above


class TimeDistribution(ABC):
    """A distribution over [0, 1]."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """Times from uniform numbers in (0, 1), by the inverse of the distribution function."""


class UniformTimes(TimeDistribution):
    """All alike."""

    def __call__(self, u: Tensor) -> Tensor:
        """`u`."""
        return u


class LogitNormalTimes(TimeDistribution):
    """The logistic function of N(m, s²): more often in the middle, where the task is hardest.

    Source: Esser et al., "Scaling Rectified Flow Transformers", ICML 2024, arXiv:2403.03206, eq. 19.

    Args:
        mean: m; above 0 for times nearer to the data.
        std: s, above 0.

    Raises:
        UserError: if `std` is not above 0.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        check_above(self, 0, std=std)
        self.mean, self.std = mean, std

    def __call__(self, u: Tensor) -> Tensor:
        """By the quantiles of the normal distribution."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))
