"""Layers in which each entry of a vector is transformed given those before it."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.flat import start_small
from lightning_gen.bijections.univariate import Univariate
from lightning_gen.bijections.zuko_import import zuko


class _Step(NamedTuple):
    """What one more known entry tells of a layer of the network: rows `units`, from the first `inputs` columns."""

    units: slice
    inputs: int


class MaskedLayer(Bijection):
    """z_i = τ(x_i; θ_i(x_{<i}, h)), nearly the identity at first; θ is a masked network of zuko's (MADE).

    A network that is evaluated anew for each entry makes the inverse cost as much as D passes. Here every unit is
    evaluated as soon as the entries are known that it depends on, and only once, so that D steps together cost a pass.

    Args:
        places: (D,) the place of each entry in the order, a permutation.
        num_features: length of h, or None; one entry needs some.
        univariate: τ.
        hidden_features: widths of the hidden layers of the network.
    """

    places: Tensor
    order: Tensor

    def __init__(
        self, places: Tensor, num_features: int | None, univariate: Univariate, hidden_features: Sequence[int]
    ) -> None:
        super().__init__((len(places),), num_features)
        self.univariate = univariate
        self.register_buffer("places", places)
        before = torch.cat((places[:, None] > places, torch.ones(len(places), num_features or 0, dtype=torch.bool)), 1)
        self.network = zuko().nn.MaskedMLP(before.repeat_interleave(univariate.num_parameters, 0), hidden_features)
        start_small(self.network[-1])
        self._plan()
        self.register_load_state_dict_post_hook(_plan_again)  # the places are part of the state

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From samples (B, D) to noise, and the log-determinant (B,)."""
        numbers = self.network(x if h is None else torch.cat((x, h), dim=1))
        z, log_slopes = self.univariate.forward(x, numbers.unflatten(1, (x.shape[1], -1)))
        return z, log_slopes.sum(1)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From noise (B, D) to samples, and the log-determinant (B,)."""
        weights = self._sorted_weights()
        z, nothing = z[:, self.order], z.new_empty(len(z), 0)
        # what is known of the inputs and of each hidden layer, in the order in which it becomes so
        known = [nothing if h is None else h, *[nothing] * (len(weights) - 1)]
        log_slopes = []
        for i, steps in enumerate(self.steps):
            for k, (step, (weight, bias)) in enumerate(zip(steps, weights, strict=True)):
                numbers = linear(known[k][:, : step.inputs], weight[step.units, : step.inputs], bias[step.units])
                if k + 1 < len(weights):
                    known[k + 1] = torch.cat((known[k + 1], numbers.relu()), dim=1)
            x, log_slope = self.univariate.inverse(z[:, i], numbers)
            log_slopes.append(log_slope)
            known[0] = torch.cat((known[0], x[:, None]), dim=1)
        return known[0][:, self.num_features or 0 :][:, self.places], torch.stack(log_slopes).sum(0)

    # ---------------------------------------------------------------- the plan of the inverse

    def _layers(self) -> Iterator[Any]:
        return (layer for layer in self.network if isinstance(layer, nn.Linear))

    def _plan(self) -> None:
        """Sort units by how many entries must be known before them, and note which become known at each step."""
        places = self.places.cpu()
        levels = [torch.cat((places + 1, places.new_zeros(self.num_features or 0)))]
        for layer in list(self._layers())[:-1]:
            levels.append(torch.where(layer.mask.cpu(), levels[-1], 0).amax(1))
        levels.append(places.repeat_interleave(self.univariate.num_parameters))
        # how many units of each layer are known when 0, 1, … entries are
        ends = [[int((level <= i).sum()) for i in range(len(places))] for level in levels]
        self.steps = [
            [_Step(slice(units[i - 1] if i else 0, units[i]), inputs[i]) for inputs, units in pairwise(ends)]
            for i in range(len(places))
        ]
        self._keep(order=places.argsort(), **{f"sorting{k}": lv.argsort(stable=True) for k, lv in enumerate(levels)})

    def _keep(self, **indices: Tensor) -> None:
        for name, value in indices.items():
            self.register_buffer(name, value.to(self.places.device), persistent=False)

    def _sorted_weights(self) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of the network's layers, masked, units in the order in which they become known."""
        layers = list(self._layers())
        sortings = [getattr(self, f"sorting{k}") for k in range(len(layers) + 1)]
        return [
            ((layer.mask * layer.weight)[rows][:, columns], layer.bias[rows])
            for layer, (columns, rows) in zip(layers, pairwise(sortings), strict=True)
        ]


def _plan_again(layer: nn.Module, incompatible_keys: Any) -> None:
    assert isinstance(layer, MaskedLayer)
    layer._plan()


class SingleLayer(Bijection):
    """z = τ(x; θ) of one entry and no features, at first the identity.

    Args:
        univariate: τ.
    """

    def __init__(self, univariate: Univariate) -> None:
        super().__init__((1,))
        self.univariate = univariate
        self.numbers = nn.Parameter(torch.zeros(univariate.num_parameters))

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From samples (B, 1) to noise, and the log-determinant (B,)."""
        z, log_slopes = self.univariate.forward(x, self.numbers.expand(*x.shape, -1))
        return z, log_slopes.sum(1)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From noise (B, 1) to samples, and the log-determinant (B,)."""
        x, log_slopes = self.univariate.inverse(z, self.numbers.expand(*z.shape, -1))
        return x, log_slopes.sum(1)
