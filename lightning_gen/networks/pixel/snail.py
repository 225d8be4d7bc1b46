"""PixelSNAIL (Chen, Mishra, Rohaninejad, Abbeel, ICML 2018, arXiv:1712.09763)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.pixel.base import Maps, PixelNetwork
from lightning_gen.networks.pixel.gated_residual import GatedResidual, NormalisedConv
from lightning_gen.networks.pixel.head import PixelHead
from lightning_gen.networks.pixel.scan import HERE, Scan, Window

_PLACES = 2


class PixelSNAIL(PixelNetwork):
    """Blocks of causal residual layers, each followed by attention to all pixels before (figure 2).

    Attention reaches where the 2×2 kernels of the layers have their blind spot.

    Args:
        sample_shape: (C, H, W); the family's.
        num_parameters: P; the likelihood's.
        num_turns: T; the likelihood's.
        width: features.
        num_blocks: number of blocks, ≥ 1.
        depth: residual layers of a block, ≥ 1.
        key_dim: length of keys and queries, all heads together.
        value_dim: length of what attention gives, likewise.
        heads: of the attention, a divisor of both.
        dropout: in the residual layers, in [0, 1).
        num_classes: classes, or attributes, add to every gate.

    Raises:
        UserError: if an argument is out of its range.
    """

    background: Tensor

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        num_parameters: int,
        num_turns: int,
        width: int = 256,
        num_blocks: int = 12,
        depth: int = 4,
        key_dim: int = 16,
        value_dim: int = 128,
        heads: int = 1,
        dropout: float = 0.5,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_parameters, num_turns, num_classes)
        check_at_least(self, 1, width=width, num_blocks=num_blocks, depth=depth, heads=heads)
        check_at_least(self, 1, key_dim=key_dim, value_dim=value_dim)
        check_dropout(self, dropout)
        if key_dim % heads or value_dim % heads:
            raise UserError(
                f"PixelSNAIL.heads is {heads}: it must divide key_dim, which is {key_dim}, and value_dim, which is"
                f" {value_dim}"
            )
        channels, height, image_width = sample_shape
        self.row_above = NormalisedConv(channels + 1, width, Window(1, 1, 1, -1))
        self.left = NormalisedConv(channels + 1, width, Window(1, -1, 1, 0))
        blocks = nn.ModuleList(
            _Block(channels + 1, width, depth, key_dim, value_dim, heads, dropout, num_classes)
            for _ in range(num_blocks)
        )
        self.blocks = cast("list[_Block]", blocks)
        self.head = PixelHead(width, width, channels, num_parameters, num_turns)
        rows, columns = torch.arange(height) / height - 0.5, torch.arange(image_width) / image_width - 0.5
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        self.register_buffer("background", places[None], persistent=False)

    def before(self, canvas: Tensor, above: Maps, y: Tensor | None, scan: Scan) -> list[Tensor]:
        """All blocks."""
        h = scan.look(self.row_above, canvas) + scan.look(self.left, canvas)
        places = scan.at(self.background).to(h.dtype).expand(len(h), -1, -1, -1)
        for block in self.blocks:
            h = block(h, canvas, places, y, scan)
        return [h]

    def within(self, canvas: Tensor, before: list[Tensor], y: Tensor | None, scan: Scan) -> Tensor:
        """The head."""
        return self.head(F.elu(before[0]), canvas, scan)


class _Block(nn.Module):
    """Residual layers, then attention: queries from features and place, keys and values of pixels before.

    Args:
        channels: of the canvas.
        width: features.
        depth: residual layers.
        key_dim: of keys and queries.
        value_dim: of values.
        heads: of the attention.
        dropout: in the residual layers.
        num_classes: number of classes, or of attributes; None for none.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        key_dim: int,
        value_dim: int,
        heads: int,
        dropout: float,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.heads, self.dims = heads, [key_dim, value_dim]
        seen = Window(1, 0, 1, 0)
        layers = nn.ModuleList(GatedResidual(width, seen, dropout, 0, num_classes) for _ in range(depth))
        self.layers = cast("list[GatedResidual]", layers)
        content = channels + width + _PLACES
        self.content = GatedResidual(content, HERE, dropout)
        self.keys_values = NormalisedConv(content, key_dim + value_dim)
        self.asked = GatedResidual(width + _PLACES, HERE, dropout)
        self.query = NormalisedConv(width + _PLACES, key_dim)
        self.merge = GatedResidual(width, HERE, dropout, value_dim)

    def forward(self, h: Tensor, canvas: Tensor, places: Tensor, y: Tensor | None, scan: Scan) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        for layer in self.layers:
            h = layer(h, y, scan)
        known = torch.cat((h, places), dim=1)
        # each pixel attends to those before it, by attending to what is moved by one; the first sees zeros
        content = self.content(scan.before(self, canvas, known), None, scan)
        keys, values = self.keys_values(content, scan).split(self.dims, dim=1)
        query = self.query(self.asked(known, None, scan), scan)
        mixed = scan.attend(self, self._rows(query), self._rows(keys), self._rows(values))
        return self.merge(h, y, scan, mixed.transpose(2, 3).flatten(1, 2).unflatten(2, h.shape[2:]))

    def _rows(self, x: Tensor) -> Tensor:
        """(B, D, h, w) → (B, heads, h·w, D / heads)."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)
