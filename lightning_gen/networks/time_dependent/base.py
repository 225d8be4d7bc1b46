"""What families expect of a network of a sample and a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_gen.networks.conditioning import Embed


class TimeNetwork(nn.Module, ABC):
    """Maps noisy samples and their times to something of the samples' shape.

    Args:
        sample_shape: of one sample, such as (2,) or (3, 32, 32).
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, sample_shape: Sequence[int], num_classes: int | None = None) -> None:
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """Something of the shape of x.

        Args:
            x: (B, *sample_shape).
            t: (B,) times, or logarithms of noise levels, of order 1 whatever the family calls them.
            y: (B,) classes, or (B, K) attributes; None only for an unconditional network.
            dropped: (B,) bool, whose `y` is to be ignored; None for nobody's.
        """


class ConditionEmbed(nn.Module):
    """A learnt vector for each class, or the sum of those of attributes, and one for no condition at all.

    The vector for no condition is what classifier-free guidance needs (Ho, Salimans, arXiv:2207.12598).

    Args:
        num_classes: number of classes, or of attributes, K.
        dim: length d of the vectors.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__()
        self.embed = Embed(num_classes, dim)
        self.nothing = nn.Parameter(torch.randn(dim))

    def forward(self, y: Tensor, dropped: Tensor | None = None) -> Tensor:
        """(B, d) vectors of (B,) classes, or (B, K) attributes, of which (B,) are `dropped`."""
        found = self.embed(y)
        if dropped is None:  # the same operations, so that every parameter is part of every step
            dropped = torch.zeros(len(y), dtype=torch.bool, device=y.device)
        return torch.where(dropped[:, None], self.nothing.to(found.dtype), found)
