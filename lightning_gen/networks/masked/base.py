"""What families expect of a network that gives the distribution of each entry of a vector from those before it."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.masked.linear import GrowingLinear, MaskedLinear

_SEED = 0
"""Of orders and degrees, which are part of a network and not of a run."""


class MaskedNetwork(nn.Module, ABC):
    """Gives P numbers of each of D entries; they depend on the entries before it in an order, and on `y`, alone.

    A family makes it from a factory, `Callable[[int, int], MaskedNetwork]`, called with the first two arguments. A
    subclass says in `body` how masked linear maps follow each other; what else it does must act on each unit by itself.

    There may be several orders (Germain et al., §4; Uria, Murray, Larochelle, "A deep and tractable density
    estimator", ICML 2014): the first is that of the entries, the others are drawn at random, once for all runs.

    Args:
        num_entries: D.
        num_parameters: P, of the distribution of an entry; the likelihood's.
        num_orders: K, ≥ 1.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.

    Raises:
        UserError: if a number is below 1.
    """

    ranks: Tensor
    """(K, D): the place of each entry in an order, 1 … D."""

    def __init__(
        self, num_entries: int, num_parameters: int, num_orders: int = 1, num_classes: int | None = None
    ) -> None:
        super().__init__()
        check_at_least(self, 1, num_orders=num_orders)
        self.num_entries, self.num_parameters = num_entries, num_parameters
        self.num_orders, self.num_classes = num_orders, num_classes
        natural = torch.arange(num_entries) + 1
        self.register_buffer("ranks", shuffled(natural, num_orders, _SEED).to(torch.int16))

    @abstractmethod
    def body(self, x: Tensor, apply: Callable[[MaskedLinear, Tensor], Tensor]) -> Tensor:
        """The P numbers of all entries, one after the other: (B, P·D) of (B, D) entries.

        Args:
            x: the entries.
            apply: calls a masked linear map. Each is called once, and given (B, N) inputs. While samples are drawn it
                is given those inputs alone that are new, and gives the outputs that can be told from them.
        """

    def forward(self, x: Tensor, y: Tensor | None = None, order: Tensor | None = None) -> Tensor:
        """The numbers of all entries, (B, P, D), in one pass.

        Args:
            x: (B, D) entries.
            y: (B,) classes or (B, K) attributes, where there are any.
            order: (1,) int64, which order; the first unless given.
        """
        k = self.ranks.new_zeros(1, dtype=torch.int64) if order is None else order
        return self.body(x, lambda layer, h: layer(h, k, y)).unflatten(1, (self.num_parameters, self.num_entries))

    @torch.no_grad()
    def ancestral(self, draw: Callable[[Tensor], Tensor], order: Tensor, y: Tensor | None = None) -> Tensor:
        """Draw vectors entry by entry; every unit of the network is computed once.

        Args:
            draw: gives entries (n, 1) from their numbers (n, P, 1).
            order: (n,) int64, in which of the orders each vector is drawn.
            y: (n,) classes or (n, K) attributes, where there are any.

        Returns:
            (n, D).
        """
        if not len(order):
            return self.ranks.new_zeros(0, self.num_entries, dtype=next(self.parameters()).dtype)
        by_order = order.argsort(stable=True)
        back = by_order.argsort()
        counts = torch.bincount(order, minlength=self.num_orders).tolist()
        conditions = [None] * len(counts) if y is None else y[by_order].split(counts)
        passes = [self._growing(k, y, n) for k, (y, n) in enumerate(zip(conditions, counts, strict=True)) if n]
        sizes, values = [n for n in counts if n], [next(self.parameters()).new_zeros(len(order), 0)]
        for _ in range(self.num_entries):
            new = values[-1][by_order].split(sizes)
            numbers = torch.cat([grow(part) for grow, part in zip(passes, new, strict=True)])
            values.append(draw(numbers[back].unsqueeze(2)))
        return torch.cat(values[1:], dim=1).gather(1, self.ranks[order].long() - 1)

    def _growing(self, order: int, y: Tensor | None, rows: int) -> Callable[[Tensor], Tensor]:
        """The numbers (n, P) of the next entry, from the entry (n, 1) before it; at first there is none, (n, 0)."""
        layers = [layer for layer in self.modules() if isinstance(layer, MaskedLinear)]
        grown = {layer: GrowingLinear(layer, order, y, rows, self.num_entries) for layer in layers}
        return lambda x: self.body(x, lambda layer, h: grown[layer](h))

    # ---------------------------------------------------------------- degrees

    def hidden_degrees(self, width: int, place: int = 0) -> Tensor:
        """(K, width) degrees of hidden units, spread evenly over 1 … D − 1.

        The paper draws them (§4). Each degree that there is room for occurs here, so that from D − 1 units on each
        entry is told all of those before it. In all orders but the first they are mixed, anew for each `place`.
        """
        degrees = torch.arange(width) * max(self.num_entries - 1, 1) // width + 1
        return shuffled(degrees, self.num_orders, _SEED + 1 + place)

    @property
    def output_degrees(self) -> Tensor:
        """(K, P·D) of what is said of the entries: one less than their own, as what is said of an entry must be."""
        return (self.ranks - 1).repeat(1, self.num_parameters)


def shuffled(values: Tensor, count: int, seed: int) -> Tensor:
    """(count, N) of (N,) values: as they are, then in random orders."""
    generator = torch.Generator().manual_seed(seed)
    others = [values[torch.randperm(len(values), generator=generator)] for _ in range(count - 1)]
    return torch.stack([values, *others])
