"""Penalties on weights."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.parametrize import is_parametrized

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.penalties.base import DiscriminatorTurn, GeneratorPenalty, GeneratorTurn, Penalty


class Orthogonal(Penalty):
    """Filters of the discriminator that are orthogonal to each other (Brock et al., "BigGAN", ICLR 2019, eq. 3).

    R_β(W) = β ‖WᵀW ⊙ (1 − I)‖²_F,  summed over convolutions and linear maps, a filter to a column of W.

    Args:
        weight: β, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "orthogonal"

    def __init__(self, weight: float = 1e-4, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        self.weight = weight

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """R_β of the discriminator."""
        return self.weight * filter_overlap(turn.network)


class GeneratorOrthogonal(GeneratorPenalty):
    """Filters of the generator that are orthogonal to each other; see `Orthogonal`.

    Args:
        weight: β, ≥ 0.
        interval: generator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "generator_orthogonal"

    def __init__(self, weight: float = 1e-4, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        self.weight = weight

    def forward(self, turn: GeneratorTurn) -> Tensor:
        """R_β of the generator."""
        return self.weight * filter_overlap(turn.network)


def filter_overlap(network: nn.Module) -> Tensor:
    """Σ_W ‖WᵀW ⊙ (1 − I)‖²_F over the convolutions and linear maps of a network; embeddings are left alone.

    Raises:
        UserError: if there are none.
    """
    overlaps = []
    for module in network.modules():
        if isinstance(module, nn.Linear | _ConvNd):
            rows = _filters(module)
            gram = rows @ rows.T
            overlaps.append((gram - gram.diag().diag()).square().sum())
    if not overlaps:
        raise UserError(f"{type(network).__name__} has no convolution or linear map to make orthogonal")
    return torch.stack(overlaps).sum()


def _filters(module: nn.Linear | _ConvNd) -> Tensor:
    """(filters, entries) of the weight as it is learnt: the one before a parametrization such as spectral norm."""
    weight: Tensor
    if is_parametrized(module, "weight") and module.parametrizations["weight"].is_tensor:  # type: ignore[index, union-attr]
        weight = module.parametrizations["weight"].original  # type: ignore[index, union-attr]
    else:
        weight = module.weight
    return (weight.transpose(0, 1) if isinstance(module, _ConvTransposeNd) else weight).flatten(1)
