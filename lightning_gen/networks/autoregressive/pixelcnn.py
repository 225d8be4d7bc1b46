"""Gated PixelCNN (van den Oord et al., "Conditional image generation with PixelCNN decoders", NIPS 2016)."""

from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.choice import choose
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.autoregressive.base import TokenModel
from lightning_gen.networks.pixel.gated_layer import GatedLayer
from lightning_gen.networks.pixel.pixel_by_pixel import PixelByPixel
from lightning_gen.networks.pixel.scan import AT_ONCE, Scan
from lightning_gen.noise import Noise


class GatedPixelCNN(TokenModel):
    """Two stacks of gated convolutions over one map of codes, in the order of reading.

    The vertical stack sees the rows above, the horizontal one what is to the left and what the vertical one tells it,
    so nothing of the past is hidden from a position (§2.2). Instead of masks the inputs are shifted once, by a row and
    by a column, and kernels end at the position itself. A position sees `depth` · ⌊kernel_size / 2⌋ rows up and as many
    columns to each side: choose them to span the map.

    Args:
        num_tokens: K; the first stage's.
        shapes: of the maps of codes; the first stage's. There may be one, (height, width).
        width: channels of each stack.
        depth: number of layers, ≥ 1.
        kernel_size: side of the kernels before they are cut, odd, ≥ 3.
        dropout: in the horizontal stack, in [0, 1).
        num_classes: classes, or attributes, add to every gate (eq. 4).

    Raises:
        UserError: if there are several maps, or an argument is out of its range.
    """

    def __init__(
        self,
        num_tokens: int,
        shapes: tuple[tuple[int, ...], ...],
        width: int = 128,
        depth: int = 8,
        kernel_size: int = 5,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(num_tokens, shapes, num_classes)
        check_at_least(self, 1, width=width, depth=depth)
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise UserError(f"GatedPixelCNN.kernel_size is {kernel_size}: it must be odd and at least 3")
        check_dropout(self, dropout)
        if len(shapes) != 1 or len(shapes[0]) < 2 or prod(shapes[0][:-2]) != 1:
            raise UserError(
                f"GatedPixelCNN models one map of codes, (height, width), but the first stage makes codes of shapes"
                f" {', '.join(str(tuple(shape)) for shape in shapes)}: use CausalTransformer"
            )
        self.size = (shapes[0][-2], shapes[0][-1])
        self.embed = nn.Embedding(num_tokens, width)
        layers = nn.ModuleList(GatedLayer(width, kernel_size, dropout, num_classes) for _ in range(depth))
        self.layers = cast("list[GatedLayer]", layers)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, num_tokens, 1))

    def forward(self, tokens: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (B, N, K) of (B, N) int64 tokens."""
        embedded = self._embedded(tokens.unflatten(1, self.size))
        links = self._above(F.pad(embedded, (0, 0, 1, -1)), y, AT_ONCE)
        return self._beside(F.pad(embedded, (1, -1)), links, y, AT_ONCE).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def draw(self, noise: Noise, y: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """As `TokenModel.draw`; the vertical stack runs once a row, the horizontal one at the position alone."""
        height, width = self.size
        uniform = noise.uniform(height, width)
        tokens = torch.zeros(len(noise), height, width, dtype=torch.int64, device=noise.device)
        zeros = self.embed.weight.new_zeros(len(noise), self.embed.embedding_dim, 1, width)
        scan = PixelByPixel(self.size)
        for i in range(height):
            scan.to_row(i)
            links = self._above(self._embedded(tokens[:, i - 1 : i]) if i else zeros, y, scan)
            for j in range(width):
                scan.to_pixel(i, j)
                left = self._embedded(tokens[:, i : i + 1, j - 1 : j]) if j else zeros[..., :1]
                logits = self._beside(left, links, y, scan)[:, :, 0, 0]
                tokens[:, i, j] = choose(logits / temperature, uniform[:, i, j])
        return tokens.flatten(1)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(B, h, w) tokens → (B, width, h, w)."""
        return self.embed(tokens).permute(0, 3, 1, 2)

    def _above(self, v: Tensor, y: Tensor | None, scan: Scan) -> list[Tensor]:
        """What the vertical stack tells each layer of the horizontal one, from what is embedded above each position."""
        links = []
        for layer in self.layers:
            v, link = layer.vertical_step(v, y, scan)
            links.append(link)
        return links

    def _beside(self, h: Tensor, links: list[Tensor], y: Tensor | None, scan: Scan) -> Tensor:
        """Logits (B, K, …), from what is embedded to the left of each position and from the links."""
        for layer, link in zip(self.layers, links, strict=True):
            h = layer.horizontal_step(h, link, y, scan)
        return self.head(h)
