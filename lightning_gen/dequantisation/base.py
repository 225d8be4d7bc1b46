"""What a dequantisation is."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.losses.likelihoods.levels import Levels
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class Dequantisation(nn.Module, ABC):
    """A distribution q(v | x) of continuous values that tell which levels they come from.

    Samples have L levels k = 0 … L − 1, stored as 2k/(L − 1) − 1. Their bins fill [-1, 1] evenly,

        v = 2(k + u)/L − 1,   u in [0, 1),

    so that log q(v | x) = log q(u | x) + D log(L/2) for D entries; a subclass says how u is distributed.

    Args:
        levels: L, ≥ 2: 256 for images stored as bytes.

    Raises:
        UserError: if there are fewer than two levels.
    """

    def __init__(self, levels: int = 256) -> None:
        super().__init__()
        remedy = "set its levels to those of data (256 of images stored as bytes), or leave dequantisation out"
        self.levels = Levels(levels, type(self).__name__, f"the dequantisation {type(self).__name__}", remedy)

    @abstractmethod
    def offsets(self, x: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Where in its bin each entry lies.

        Args:
            x: (B, …) samples in model form.
            noise: a stream a sample; None for torch's global generator, as training uses it, with gradients.

        Returns:
            u (B, …) in [0, 1), and log q(u | x), (B,) nats.
        """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values v (B, …) in [-1, 1) of samples (B, …), and log q(v | x), (B,) nats; with gradients."""
        return self._values(x, None)

    @torch.no_grad()
    def draw(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """As `forward`, by seeds."""
        return self._values(x, noise)

    def quantise(self, v: Tensor) -> Tensor:
        """The samples (n, …) in model form in whose bins values lie; those outside [-1, 1) become the nearest."""
        k = ((v + 1) * (self.levels.count / 2)).floor().clamp(0, self.levels.count - 1)
        return self.levels.value(k)

    def middles(self, x: Tensor) -> Tensor:
        """The values (n, …) in the middle of the bins of samples (n, …), without noise."""
        return (self.levels.index(full(x)) + 0.5) * (2 / self.levels.count) - 1

    def check(self, x: Tensor) -> None:
        """Raise `UserError` unless every value is a level, exactly or rounded to a byte."""
        self.levels.check(x)

    def _values(self, x: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        x = full(x)
        u, log_q = self.offsets(x, noise)
        v = (self.levels.index(x) + u) * (2 / self.levels.count) - 1
        return v, log_q + math.prod(x.shape[1:]) * math.log(self.levels.count / 2)
