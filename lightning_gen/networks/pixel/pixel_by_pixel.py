"""Going through an image pixel by pixel, with what was computed kept."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.networks.pixel.scan import HERE, CausalConv, Scan, Window


class PixelByPixel(Scan):
    """One row or one pixel at a time, in the order of reading; what later ones will need is kept.

    Args:
        size: (H, W) of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.row, self.column = 0, 0
        self.whole_row = False
        self._rows: dict[nn.Module, _Rows] = {}
        self._features: dict[nn.Module, Tensor] = {}
        self._past: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._grown: dict[nn.Module, Tensor] = {}
        self._kernels: dict[nn.Module, Tensor] = {}
        self._coarse: PixelByPixel | None = None

    def to_row(self, row: int) -> None:
        """Go to all of a row."""
        self.row, self.column, self.whole_row = row, 0, True

    def to_pixel(self, row: int, column: int) -> None:
        """Go to one pixel."""
        self.row, self.column, self.whole_row = row, column, False

    def convolve(self, layer: CausalConv, x: Tensor) -> Tensor:
        """The window's rows are kept, of which a new part is the last."""
        return self._apply(layer, x if layer.window == HERE else self._seen(layer, x))

    def look(self, layer: CausalConv, canvas: Tensor) -> Tensor:
        """Only the window is looked at."""
        left, right, top, bottom = layer.window
        start, stop = self.column - left, self._last_column + right + 1
        first, last = self.row - top, self.row + bottom + 1
        width = self.size[1]
        inside = canvas[:, :, max(first, 0) : last, max(start, 0) : max(min(stop, width), 0)]
        outside = max(-start, 0), max(stop - width, 0), max(-first, 0), 0
        return self._apply(layer, F.pad(inside, outside) if any(outside) else inside)

    def at(self, whole: Tensor) -> Tensor:
        """A row, or a pixel of it."""
        return self.of_row(whole[:, :, self.row : self.row + 1])

    def of_row(self, row: Tensor) -> Tensor:
        """The row, or a pixel of it."""
        return row if self.whole_row else row[:, :, :, self.column : self.column + 1]

    def before(self, key: nn.Module, canvas: Tensor, x: Tensor) -> Tensor:
        """Features are those of the last call."""
        place = self.row * self.size[1] + self.column - 1
        if place < 0:
            self._features[key] = x
            return x.new_zeros(len(x), canvas.shape[1] + x.shape[1], 1, 1)
        features, self._features[key] = self._features[key], x
        row, column = divmod(place, self.size[1])
        pixel = canvas[:, :, row : row + 1, column : column + 1].to(x.dtype)
        return torch.cat((pixel, features), dim=1)

    def attend(self, key: nn.Module, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Keys and values are kept."""
        place = self.row * self.size[1] + self.column
        if key not in self._past:
            shape = *keys.shape[:2], self.size[0] * self.size[1]
            self._past[key] = keys.new_empty(*shape, keys.shape[3]), values.new_empty(*shape, values.shape[3])
        kept_keys, kept_values = self._past[key]
        kept_keys[:, :, place], kept_values[:, :, place] = keys[:, :, 0], values[:, :, 0]
        past = slice(place + 1)
        return F.scaled_dot_product_attention(query, kept_keys[:, :, past], kept_values[:, :, past])

    def halved(self, shrink: CausalConv, x: Tensor, compute: Callable[[Tensor, Scan], Tensor]) -> Tensor:
        """Computed at the first of the four pixels that become one, or in the first of two rows, for the others too."""
        seen, coarse = self._seen(shrink, x), self._half()
        if self.row % 2 == 0 and self.column % 2 == 0:
            made = compute(self._apply(shrink, seen), coarse)
            if shrink not in self._grown:
                self._grown[shrink] = made.new_empty(*made.shape[:2], 2, self.size[1])
            self._grown[shrink][:, :, :, self.column : self.column + made.shape[3]] = made
        return self.of_row(self._grown[shrink][:, :, self.row % 2 : self.row % 2 + 1])

    @property
    def _last_column(self) -> int:
        return self.size[1] - 1 if self.whole_row else self.column

    def _seen(self, layer: CausalConv, x: Tensor) -> Tensor:
        """Keep a part of a map, and give what the layer's window sees of it."""
        if layer not in self._rows:
            self._rows[layer] = _Rows(layer.window, self.size[1], x)
        return self._rows[layer].with_part(x, self.row, self.column)

    def _apply(self, layer: CausalConv, seen: Tensor) -> Tensor:
        if layer not in self._kernels:  # it may have a mask, or a norm of its own
            self._kernels[layer] = layer.kernel()
        kernel = self._kernels[layer]
        if self.whole_row:
            return F.conv2d(seen, kernel, layer.bias, layer.stride)
        # one product of a matrix costs a fraction of what preparing a convolution does
        return F.linear(seen.flatten(1), kernel.flatten(1), layer.bias)[:, :, None, None]

    def _half(self) -> "PixelByPixel":
        if self._coarse is None:
            self._coarse = PixelByPixel((self.size[0] // 2, self.size[1] // 2))
        self._coarse.row, self._coarse.column, self._coarse.whole_row = self.row // 2, self.column // 2, self.whole_row
        return self._coarse


class _Rows:
    """As many last rows of a map as a window sees, with the zeros around them.

    Args:
        window: with `bottom` = 0 and `right` ≥ 0.
        width: W of the map.
        x: (B, C, 1, ·) a part of it.
    """

    def __init__(self, window: Window, width: int, x: Tensor) -> None:
        self.window = window
        self.values = x.new_zeros(len(x), x.shape[1], window.top + 1, window.left + width + window.right)
        self.row = 0

    def with_part(self, x: Tensor, row: int, column: int) -> Tensor:
        """Keep a part that begins at a column; the window around it, (B, C, top + 1, left + · + right)."""
        values, (left, right, _, _), count = self.values, self.window, x.shape[3]
        if row > self.row:
            values[:, :, :-1] = values[:, :, 1:].clone()
            values[:, :, -1] = 0
            self.row = row
        values[:, :, -1, left + column : left + column + count] = x[:, :, 0]
        return values[:, :, :, column : column + left + count + right]
