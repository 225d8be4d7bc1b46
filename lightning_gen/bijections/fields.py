"""Velocities of continuous flows, as functions of a sample, a time and features of a condition."""

from abc import ABC, abstractmethod
from itertools import pairwise
from math import prod
from typing import cast

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least


class VectorField(nn.Module, ABC):
    """v(x, t; h), smooth in x: its divergence is trained, too.

    Args:
        sample_shape: of x without the batch.
        num_features: length F of features h of a condition; None for none.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__()
        self.sample_shape, self.num_features = tuple(sample_shape), num_features

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, *sample_shape), (B,) times in [0, 1] and (B, F) → (B, *sample_shape), each row by itself."""


class _Squashed(nn.Module):
    """(W x) ⊙ σ(gate) + bias, gate and bias linear in t and h: the "concatsquash" layers of FFJORD's program.

    Args:
        linear: W.
        channels: of W x.
        num_features: length F of h, or None.
    """

    def __init__(self, linear: nn.Module, channels: int, num_features: int | None) -> None:
        super().__init__()
        self.linear = linear
        self.given = nn.Linear(1 + (num_features or 0), 2 * channels)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """(B, channels, …) of x and c = (t, h), (B, 1 + F)."""
        value = self.linear(x)
        gate, bias = self.given(c).view(len(x), 2 * value.shape[1], *[1] * (value.ndim - 2)).chunk(2, dim=1)
        return value * gate.sigmoid() + bias


class _LayeredField(VectorField, ABC):
    """Squashed layers with an activation between them.

    Args:
        sample_shape: of x without the batch.
        num_features: length F of h, or None.
        layers: from the sample to its velocity.
        activation: between them.
    """

    def __init__(
        self, sample_shape: tuple[int, ...], num_features: int | None, layers: list[_Squashed], activation: nn.Module
    ) -> None:
        super().__init__(sample_shape, num_features)
        self.layers = cast("list[_Squashed]", nn.ModuleList(layers))
        self.activation = activation

    def through(self, x: Tensor, t: Tensor, h: Tensor | None) -> Tensor:
        """The last layer's (B, …)."""
        c = t[:, None] if h is None else torch.cat((t[:, None], h), dim=1)
        for layer in self.layers[:-1]:
            x = self.activation(layer(x, c))
        return self.layers[-1](x, c)


class MLPField(_LayeredField):
    """A fully connected network of the entries (Grathwohl et al., "FFJORD", ICLR 2019, §4.1).

    Args:
        sample_shape: of x without the batch.
        num_features: length F of features of a condition; None for none.
        width: units of each hidden layer, ≥ 1.
        depth: number of hidden layers, ≥ 1.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self, sample_shape: tuple[int, ...], num_features: int | None = None, width: int = 64, depth: int = 3
    ) -> None:
        check_at_least(self, 1, width=width, depth=depth)
        sizes = [prod(sample_shape), *[width] * depth, prod(sample_shape)]
        layers = [
            _Squashed(nn.Linear(before, after, bias=False), after, num_features) for before, after in pairwise(sizes)
        ]
        super().__init__(sample_shape, num_features, layers, nn.Tanh())

    def forward(self, x: Tensor, t: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, *sample_shape), (B,) times and (B, F) → (B, *sample_shape)."""
        return self.through(x.flatten(1), t, h).view_as(x)


class ConvField(_LayeredField):
    """Convolutions of 3×3 pixels that keep the size of the image (Grathwohl et al., ICLR 2019, §4.2).

    Args:
        sample_shape: (C, H, W).
        num_features: length F of features of a condition; None for none.
        width: channels of each hidden layer, ≥ 1.
        depth: number of hidden layers, ≥ 1.

    Raises:
        UserError: if a number is out of its range, or samples are no images.
    """

    def __init__(
        self, sample_shape: tuple[int, ...], num_features: int | None = None, width: int = 64, depth: int = 3
    ) -> None:
        check_at_least(self, 1, width=width, depth=depth)
        if len(sample_shape) != 3:
            raise UserError(
                f"ConvField is for images (C, H, W), but model.init_args.sample_shape is {list(sample_shape)}: use"
                " MLPField"
            )
        sizes = [sample_shape[0], *[width] * depth, sample_shape[0]]
        layers = [
            _Squashed(nn.Conv2d(before, after, 3, padding=1, bias=False), after, num_features)
            for before, after in pairwise(sizes)
        ]
        super().__init__(sample_shape, num_features, layers, nn.Softplus())

    def forward(self, x: Tensor, t: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B,) times and (B, F) → (B, C, H, W)."""
        return self.through(x, t, h)
