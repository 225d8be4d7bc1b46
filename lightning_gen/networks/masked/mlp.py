"""MADE (Germain, Gregor, Murray, Larochelle, ICML 2015, arXiv:1502.03509)."""

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.masked.base import MaskedNetwork
from lightning_gen.networks.masked.linear import MaskedLinear


class MaskedMLP(MaskedNetwork):
    """A multilayer perceptron with masks (§4): h_l = f(b + (W ⊙ M) h_{l−1}), outputs c + (V ⊙ M) h_L + (A ⊙ M) x.

    Classes and attributes add to every layer. The entry that comes first depends on nothing else, so on attributes it
    does so linearly.

    Args:
        num_entries: D; the model's.
        num_parameters: P, of the distribution of an entry; the likelihood's.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_orders: K, ≥ 1, of the entries: one for each step of training, the average of all in evaluation.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
        activation: makes f, which acts on each unit by itself.
        dropout: of hidden units, in [0, 1).
        direct_connections: whether there is A, D² · P weights from the entries to what is said of them.

    Raises:
        UserError: if a number is out of its range, or some entry would not be told of all of those before it.
    """

    def __init__(
        self,
        num_entries: int,
        num_parameters: int,
        width: int = 512,
        depth: int = 1,
        num_orders: int = 1,
        num_classes: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        dropout: float = 0.0,
        direct_connections: bool = True,
    ) -> None:
        super().__init__(num_entries, num_parameters, num_orders, num_classes)
        check_at_least(self, 1, width=width, depth=depth)
        check_dropout(self, dropout)
        if not direct_connections:
            check_reach(self, width, "leave direct_connections on")
        self.activation, self.dropout = activation(), nn.Dropout(dropout)
        degrees = [self.ranks, *(self.hidden_degrees(width, place) for place in range(depth))]
        self.layers = nn.ModuleList(MaskedLinear(a, b, num_classes=num_classes) for a, b in pairwise(degrees))
        self.out = MaskedLinear(degrees[-1], self.output_degrees, num_classes=num_classes)
        self.direct = MaskedLinear(self.ranks, self.output_degrees, bias=False) if direct_connections else None

    def body(self, x: Tensor, apply: Callable[[MaskedLinear, Tensor], Tensor]) -> Tensor:
        """See `MaskedNetwork`."""
        h = x
        for layer in self.layers:
            assert isinstance(layer, MaskedLinear)
            h = self.dropout(self.activation(apply(layer, h)))
        out = apply(self.out, h)
        return out if self.direct is None else out + apply(self.direct, x)


def check_reach(network: MaskedNetwork, width: int, remedy: str | None = None) -> None:
    """Raise `UserError` if there are too few hidden units for each entry to be told of all of those before it."""
    least = network.num_entries - 1
    if width < least:
        or_else = "" if remedy is None else f", or {remedy}"
        raise UserError(
            f"{type(network).__name__}.width is {width}, too few units to tell each of {network.num_entries} entries of"
            f" all of those before it: make it at least {least}{or_else}"
        )
