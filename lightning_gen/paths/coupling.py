"""Which noise goes to which sample."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Coupling(ABC):
    """Pairs the samples of a batch with noise; of a batch in one process, where there are several."""

    looks_at_batch: ClassVar[bool]
    """Whether the noise of a sample depends on other samples, so that a loss of a sample alone says little."""

    @abstractmethod
    def __call__(self, noise: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """The noise that goes to each sample.

        Args:
            noise: (B, …) standard normal.
            x: (B, …) samples.
            y: (B,) classes, (B, K) attributes, or None.

        Returns:
            (B, …), rows of `noise`.
        """


class Independent(Coupling):
    """Each sample's own."""

    looks_at_batch = False

    def __call__(self, noise: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """`noise`."""
        return noise


def pair_costs(noise: Tensor, x: Tensor) -> Tensor:
    """Half the squared distance of each noise, (rows), to each sample, (columns): (B, B)."""
    a, b = noise.flatten(1), x.flatten(1)
    return (a.square().sum(1)[:, None] + b.square().sum(1)) / 2 - a @ b.T


def unlike(y: Tensor) -> Tensor:
    """Which rows of a condition (B,) or (B, K) differ: (B, B) bool."""
    rows = y.reshape(len(y), -1)
    return (rows[:, None] != rows[None]).any(2)
