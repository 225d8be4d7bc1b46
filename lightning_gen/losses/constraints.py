"""Constraints: what is done to the discriminator's weights after each of its updates."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.losses.arguments import check_above


class Constraint(ABC):
    """Moves the weights of a network back to where they may be."""

    @abstractmethod
    def __call__(self, network: nn.Module) -> None:
        """Change the network's parameters in place, without gradient."""


class WeightClipping(Constraint):
    """Every parameter in [−c, c] (WGAN: Arjovsky, Chintala, Bottou, ICML 2017, algorithm 1, line 7).

    Args:
        limit: the bound c, > 0.

    Raises:
        UserError: if the limit is not above 0.
    """

    def __init__(self, limit: float = 0.01) -> None:
        check_above(self, 0, limit=limit)
        self.limit = limit

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> None:
        """Clip the parameters."""
        parameters: list[Tensor] = list(network.parameters())
        torch._foreach_clamp_min_(parameters, -self.limit)
        torch._foreach_clamp_max_(parameters, self.limit)
