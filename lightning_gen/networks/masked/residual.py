"""MADE with residual blocks (Nash, Durkan, "Autoregressive energy machines", ICML 2019, arXiv:1904.05626)."""

from collections.abc import Callable

from torch import Tensor, nn

from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.masked.base import MaskedNetwork
from lightning_gen.networks.masked.linear import MaskedLinear
from lightning_gen.networks.masked.mlp import check_reach


class ResidualMADE(MaskedNetwork):
    """A masked perceptron of residual blocks, h ← h + W₂ f(W₁ f(h)), all of whose layers have the same degrees.

    Classes and attributes add to every layer, as in `MaskedMLP`.

    Args:
        num_entries: D; the model's.
        num_parameters: P, of the distribution of an entry; the likelihood's.
        width: units of each hidden layer, at least D − 1.
        depth: number of blocks, ≥ 1.
        num_orders: K, ≥ 1, of the entries: one for each step of training, the average of all in evaluation.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
        activation: makes f, which acts on each unit by itself.
        dropout: of the units within a block, in [0, 1).

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        num_entries: int,
        num_parameters: int,
        width: int = 256,
        depth: int = 2,
        num_orders: int = 1,
        num_classes: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(num_entries, num_parameters, num_orders, num_classes)
        check_at_least(self, 1, width=width, depth=depth)
        check_dropout(self, dropout)
        check_reach(self, width)
        self.activation, self.dropout = activation(), nn.Dropout(dropout)
        hidden = self.hidden_degrees(width)
        self.first = MaskedLinear(self.ranks, hidden, num_classes=num_classes)
        self.layers = nn.ModuleList(MaskedLinear(hidden, hidden, num_classes=num_classes) for _ in range(2 * depth))
        self.out = MaskedLinear(hidden, self.output_degrees, num_classes=num_classes)

    def body(self, x: Tensor, apply: Callable[[MaskedLinear, Tensor], Tensor]) -> Tensor:
        """See `MaskedNetwork`."""
        h = apply(self.first, x)
        layers: list[MaskedLinear] = list(self.layers)  # type: ignore[arg-type]
        for inner, outer in zip(layers[::2], layers[1::2], strict=True):
            h = h + apply(outer, self.dropout(self.activation(apply(inner, self.activation(h)))))
        return apply(self.out, self.activation(h))
