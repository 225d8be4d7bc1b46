"""How an image is gone through: at once, as in training, or pixel by pixel, each computed from what was kept.

A network whose every pixel depends on pixels before it can be drawn from in two ways. The plain one evaluates it on the
whole image for each pixel. But what it computed at earlier pixels never changes: with that kept, a pixel costs what its
own windows cost, and an image as much as it has pixels, not their square (Ramachandran et al., "Fast Generation for
Convolutional Autoregressive Models", arXiv:1704.06001). Networks are written once, in terms of a `Scan`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Window(NamedTuple):
    """What a convolution sees from a pixel: so many columns to each side, so many rows up and down.

    Numbers below zero leave the pixel's own column (`right` = −1) or row (`bottom` = −1) out.
    """

    left: int
    right: int
    top: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the kernel."""
        return self.top + self.bottom + 1, self.left + self.right + 1


HERE = Window(0, 0, 0, 0)
"""A pixel itself."""


class CausalConv(nn.Conv2d):
    """A convolution over a window of a map, zero outside of it.

    Args:
        in_channels: of the map.
        out_channels: of what comes out.
        window: what it sees.
        stride: of columns and rows; 2 for maps of half the size, by `Scan.halved`.
        bias: whether there is one.
    """

    def __init__(
        self, in_channels: int, out_channels: int, window: Window = HERE, stride: int = 1, bias: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, window.size, stride, bias=bias)
        self.window = window

    def kernel(self) -> Tensor:
        """The weights as they are applied, (out, in, height, width)."""
        return self.weight

    def forward(self, x: Tensor, scan: "Scan | None" = None) -> Tensor:
        """Map (B, in, h, w) to (B, out, h, w): all of a map at once, or the part of it where a scan is."""
        return (scan or AT_ONCE).convolve(self, x)


class Scan(ABC):
    """What depends on how an image is gone through. Parts of maps are where the scan is: all, a row, or a pixel."""

    @abstractmethod
    def convolve(self, layer: CausalConv, x: Tensor) -> Tensor:
        """Apply a convolution whose window ends at the pixel's row.

        Args:
            layer: with `window.bottom` = 0 and `window.right` ≥ 0.
            x: (B, in, h, w) the part of the map.
        """

    @abstractmethod
    def look(self, layer: CausalConv, canvas: Tensor) -> Tensor:
        """Apply a convolution to the image, (B, in, H, W) whole, of which only what was drawn may be seen."""

    @abstractmethod
    def at(self, whole: Tensor) -> Tensor:
        """The part of a whole map (B, C, H, W)."""

    @abstractmethod
    def of_row(self, row: Tensor) -> Tensor:
        """The part of what was computed for all of a row, (B, C, ·, W)."""

    @abstractmethod
    def before(self, key: nn.Module, canvas: Tensor, x: Tensor) -> Tensor:
        """Pixels and features of the pixel before, in the order of reading; zeros before the first.

        Args:
            key: who asks.
            canvas: (B, C, H, W) the image, whole.
            x: (B, D, h, w) the part of a map of features.

        Returns:
            (B, C + D, h, w).
        """

    @abstractmethod
    def attend(self, key: nn.Module, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attention of each pixel to itself and those before it: (B, heads, N, d) each, N pixels in order."""

    @abstractmethod
    def halved(self, shrink: CausalConv, x: Tensor, compute: Callable[[Tensor, "Scan"], Tensor]) -> Tensor:
        """What is computed at half the resolution and brought back.

        Args:
            shrink: a convolution of stride 2.
            x: (B, in, h, w) the part of the map; sides of the whole one are even.
            compute: from what `shrink` makes, and the scan of the half-size map, to a map of the size of `x`.
        """


class _AtOnce(Scan):
    """The whole image."""

    def convolve(self, layer: CausalConv, x: Tensor) -> Tensor:
        padded = F.pad(x, layer.window) if any(layer.window) else x
        return F.conv2d(padded, layer.kernel(), layer.bias, layer.stride)

    def look(self, layer: CausalConv, canvas: Tensor) -> Tensor:
        return self.convolve(layer, canvas)

    def at(self, whole: Tensor) -> Tensor:
        return whole

    def of_row(self, row: Tensor) -> Tensor:
        return row

    def before(self, key: nn.Module, canvas: Tensor, x: Tensor) -> Tensor:
        both = torch.cat((canvas.to(x.dtype), x), dim=1)
        return F.pad(both.flatten(2), (1, -1)).unflatten(2, x.shape[2:])

    def attend(self, key: nn.Module, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=True)

    def halved(self, shrink: CausalConv, x: Tensor, compute: Callable[[Tensor, Scan], Tensor]) -> Tensor:
        return compute(self.convolve(shrink, x), self)


AT_ONCE = _AtOnce()
