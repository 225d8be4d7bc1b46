"""Gated PixelCNN (van den Oord et al., "Conditional image generation with PixelCNN decoders", NIPS 2016)."""

from math import prod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.choice import choose
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.autoregressive.base import TokenModel
from lightning_gen.networks.conditioning import Embed
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
        if not 0 <= dropout < 1:
            raise UserError(f"GatedPixelCNN.dropout is {dropout}: it must be in [0, 1)")
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
        return self._beside(embedded, self._above(embedded, y), y).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def draw(self, noise: Noise, y: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """As `TokenModel.draw`; the vertical stack runs once a row, the horizontal one on the row alone."""
        height, width = self.size
        uniform = noise.uniform(height, width)
        tokens = torch.zeros(len(noise), height, width, dtype=torch.int64, device=noise.device)
        for i in range(height):
            above = [link[:, :, i:] for link in self._above(self._embedded(tokens[:, : i + 1]), y)]
            for j in range(width):
                row = self._embedded(tokens[:, i : i + 1, : j + 1])
                logits = self._beside(row, [link[..., : j + 1] for link in above], y)[:, :, 0, j]
                tokens[:, i, j] = choose(logits / temperature, uniform[:, i, j])
        return tokens.flatten(1)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(B, h, w) tokens → (B, width, h, w)."""
        return self.embed(tokens).permute(0, 3, 1, 2)

    def _above(self, embedded: Tensor, y: Tensor | None) -> list[Tensor]:
        """What the vertical stack tells each layer of the horizontal one, from the rows above each row."""
        links, v = [], F.pad(embedded, (0, 0, 1, -1))
        for layer in self.layers:
            v, link = layer.vertical_step(v, y)
            links.append(link)
        return links

    def _beside(self, embedded: Tensor, links: list[Tensor], y: Tensor | None) -> Tensor:
        """Logits (B, K, …) of rows, from what is to the left of each position in it and from the links."""
        h = F.pad(embedded, (1, -1))
        for layer, link in zip(self.layers, links, strict=True):
            h = layer.horizontal_step(h, link, y)
        return self.head(h)


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2), whose kernels end at the position itself.

    Args:
        width: channels of each stack.
        kernel_size: side of the kernels before they are cut.
        dropout: before the last convolution of the horizontal stack.
        num_classes: number of classes, or of attributes; None for none.
    """

    def __init__(self, width: int, kernel_size: int, dropout: float, num_classes: int | None) -> None:
        super().__init__()
        self.reach = kernel_size // 2
        self.vertical = nn.Conv2d(width, 2 * width, (self.reach + 1, kernel_size))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, self.reach + 1))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(width, width, 1))
        self.embed = Embed(num_classes, 4 * width) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.1)  # no more than the convolutions give at first

    def vertical_step(self, v: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """(B, width, H, W) → the next layer's, and (B, 2·width, H, W) for this layer's horizontal stack."""
        features = self.vertical(F.pad(v, (self.reach, self.reach, self.reach, 0)))
        return self._gate(features, y, 0), self.link(features)

    def horizontal_step(self, h: Tensor, link: Tensor, y: Tensor | None) -> Tensor:
        """(B, width, H, W) → the next layer's."""
        features = self.horizontal(F.pad(h, (self.reach, 0))) + link
        return h + self.out(self._gate(features, y, 1))

    def _gate(self, features: Tensor, y: Tensor | None, stack: int) -> Tensor:
        """Tanh(a + a_y) ⊙ σ(b + b_y) of the halves a, b of the features (eq. 4)."""
        if self.embed is not None:
            assert y is not None
            features = features + self.embed(y).to(features.dtype).chunk(2, dim=1)[stack][:, :, None, None]
        a, b = features.chunk(2, dim=1)
        return a.tanh() * b.sigmoid()
