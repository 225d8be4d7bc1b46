"""What a coupling does to each entry: increasing functions whose parameters come from elsewhere."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Elementwise(nn.Module, ABC):
    """y = g(x; θ) for each entry x of an image, increasing in x.

    A coupling makes it from a factory, `Callable[[int], Elementwise]`, called with the argument below.

    Args:
        channels: number C of channels of the entries.
    """

    parameters_per_entry: int
    """Length of θ."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    @property
    def num_parameters(self) -> int:
        """Channels of the map of parameters."""
        return self.channels * self.parameters_per_entry

    @abstractmethod
    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Of (B, C, H, W) entries and (B, num_parameters, H, W): y and log ∂y/∂x, (B, C, H, W) both."""

    @abstractmethod
    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Entries x and log ∂x/∂y, (B, C, H, W) both."""


class Additive(Elementwise):
    """y = x + t, which keeps volumes (Dinh, Krueger, Bengio, "NICE", 2014, eq. 5)."""

    parameters_per_entry = 1

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """y, and 0."""
        return x + theta, torch.zeros_like(x)

    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x, and 0."""
        return y - theta, torch.zeros_like(y)


class Affine(Elementwise, ABC):
    """y = (x + t) · exp(s)."""

    parameters_per_entry = 2

    @abstractmethod
    def log_scale(self, raw: Tensor) -> Tensor:
        """The s (B, C, H, W) of what a network gave."""

    def forward(self, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """y, and s."""
        t, raw = theta.chunk(2, dim=1)
        s = self.log_scale(raw)
        return (x + t) * s.exp(), s

    def inverse(self, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """x, and −s."""
        t, raw = theta.chunk(2, dim=1)
        s = self.log_scale(raw)
        return y * (-s).exp() - t, -s


class ExponentialAffine(Affine):
    """s as the network gives it: scales without bounds."""

    def log_scale(self, raw: Tensor) -> Tensor:
        """The same."""
        return raw


class SigmoidAffine(Affine):
    """exp(s) = σ(s̃ + 2), below 1 and 0.88 at first: the authors' program of Kingma, Dhariwal, "Glow", NeurIPS 2018."""

    def log_scale(self, raw: Tensor) -> Tensor:
        """Log σ(s̃ + 2)."""
        return F.logsigmoid(raw + 2)


class TanhAffine(Affine):
    """s = γ tanh(s̃) with a learnt γ for each channel (Dinh et al., "Real NVP", ICLR 2017, §4.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def log_scale(self, raw: Tensor) -> Tensor:
        """γ tanh(s̃)."""
        return self.gain * raw.tanh()
