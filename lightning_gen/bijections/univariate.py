"""Increasing functions of one number, whose parameters networks give: what couplings and autoregressive flows share."""

from abc import ABC, abstractmethod
from math import log

import torch
from torch import Tensor

LOG_SMALLEST_SLOPE = log(1e-3)


class Univariate(ABC):
    """A family of increasing functions R → R; the identity where their parameters are 0.

    Attributes:
        num_parameters: P, how many numbers tell a function.
    """

    num_parameters: int

    @abstractmethod
    def forward(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Values z and log dz/dx, (…) each, of x (…) and parameters (…, P)."""

    @abstractmethod
    def inverse(self, z: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Values x and log dx/dz, (…) each, of z (…) and parameters (…, P)."""


class Additive(Univariate):
    """z = x + b."""

    num_parameters = 1

    def forward(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Shifted."""
        return x + numbers[..., 0], torch.zeros_like(x)

    def inverse(self, z: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Shifted back."""
        return z - numbers[..., 0], torch.zeros_like(z)


class Affine(Univariate):
    """z = e^s x + b, with e^s between 10⁻³ and 10³, as zuko has it."""

    num_parameters = 2

    def forward(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled, then shifted."""
        shift, log_scale = numbers[..., 0], softly_clipped(numbers[..., 1])
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, z: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Shifted back, then scaled back."""
        shift, log_scale = numbers[..., 0], softly_clipped(numbers[..., 1])
        return (z - shift) * (-log_scale).exp(), -log_scale


def softly_clipped(numbers: Tensor, bound: float = -LOG_SMALLEST_SLOPE) -> Tensor:
    """Numbers t / (1 + |t| / bound): nearly t where that is small, and between −bound and bound."""
    return numbers / (1 + (numbers / bound).abs())
