"""Linear maps some of whose weights are held at 0, so that units see no further than they may.

Germain, Gregor, Murray, Larochelle, "MADE: Masked autoencoder for distribution estimation", ICML 2015, §4.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.networks.conditioning import Embed


class MaskedLinear(nn.Linear):
    """A linear map whose output k sees the inputs of degree at most its own, W_kj ≠ 0 only if m_k ≥ m_j.

    A degree says of how many entries, in their order, a unit may know. There are K tables of degrees, one of which
    holds in a pass. Where the paper has a strict mask, degrees of the outputs are one less.

    Args:
        given: (K, N) degrees of the inputs.
        wanted: (K, M) degrees of the outputs.
        bias: whether something is added that depends on no input.
        num_classes: classes, or attributes, add to every output; None for neither.
    """

    given: Tensor
    wanted: Tensor

    def __init__(self, given: Tensor, wanted: Tensor, bias: bool = True, num_classes: int | None = None) -> None:
        super().__init__(given.shape[1], wanted.shape[1], bias)
        self.register_buffer("given", given.to(torch.int16))
        self.register_buffer("wanted", wanted.to(torch.int16))
        self.embed = Embed(num_classes, wanted.shape[1]) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.1)  # no more than the inputs give at first

    def forward(self, x: Tensor, order: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Map (B, N) inputs to (B, M).

        Args:
            x: what is mapped.
            order: (1,) int64, the table of degrees that holds.
            y: (B,) classes or (B, K) attributes, where there are any.
        """
        given, wanted = self.given.index_select(0, order), self.wanted.index_select(0, order)
        weight = self.weight.masked_fill(given > wanted.T, 0)
        return self._with_classes(F.linear(x, weight, self.bias), y)

    def shift(self, y: Tensor | None) -> Tensor:
        """What is added to the inputs' part: (M,), or (B, M) where there are classes."""
        zero = self.weight.new_zeros(self.out_features)
        return self._with_classes(zero if self.bias is None else self.bias, y)

    def _with_classes(self, h: Tensor, y: Tensor | None) -> Tensor:
        if self.embed is None:
            return h
        assert y is not None
        return h + self.embed(y).to(h.dtype)


class GrowingLinear:
    """A masked linear map whose inputs become known degree by degree; each output is computed once, when it can be.

    All passes together cost what one pass costs, and less than half of it, since nothing is multiplied by a mask.

    Args:
        layer: the map.
        order: which of its tables of degrees holds.
        y: (n,) classes or (n, K) attributes of the rows, where there are any.
        rows: n.
        highest: D, no degree is above it.
    """

    def __init__(self, layer: MaskedLinear, order: int, y: Tensor | None, rows: int, highest: int) -> None:
        given, wanted = layer.given[order], layer.wanted[order]
        # sorted by degree the weights that are not 0 lie below a staircase
        into, out = given.argsort(stable=True), wanted.argsort(stable=True)
        self.weight, self.shift = layer.weight[out][:, into], layer.shift(y)[..., out]
        self.known, ends = _up_to(given, highest), _up_to(wanted, highest)
        self.done = [(0, ends[0]), *pairwise(ends)]
        self.inputs = layer.weight.new_zeros(rows, layer.in_features)
        self.degree = 0

    def __call__(self, new: Tensor) -> Tensor:
        """The outputs (n, …) of the next degree, from the inputs (n, …) of that degree; the first degree is 0."""
        end, (first, last) = self.known[self.degree], self.done[self.degree]
        self.inputs[:, end - new.shape[1] : end] = new
        self.degree += 1
        return F.linear(self.inputs[:, :end], self.weight[first:last, :end]) + self.shift[..., first:last]


def _up_to(degrees: Tensor, highest: int) -> list[int]:
    """How many degrees are at most 0, 1 … `highest`."""
    return torch.bincount(degrees.long(), minlength=highest + 1).cumsum(0).tolist()
