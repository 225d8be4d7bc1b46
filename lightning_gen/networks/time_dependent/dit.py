"""The diffusion transformer (Peebles, Xie, "Scalable diffusion models with transformers", ICCV 2023, arXiv:2212.09748).

Images are cut into patches, each a token; blocks of attention and a perceptron see the time by "adaLN-Zero" (§3.2).
"""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.time_dependent.base import TimeNetwork
from lightning_gen.networks.time_dependent.embeddings import Sinusoidal, TimeEmbedding, TimeFeatures

_NUM_FEATURES = 256  # of time, as published
_STD = 0.02  # of what embeds time and class, as published


class DiT(TimeNetwork):
    """Tokens of patches, and blocks that do nothing at the start; so the output is 0, too.

    The published sizes, with patches of 2 (millions of parameters, for 4 channels of 32 × 32 and 1000 classes):

    | | `width` | `depth` | `heads` | |
    |---|---|---|---|---|
    | DiT-S/2 | 384 | 12 | 6 | 33 |
    | DiT-B/2 | 768 | 12 | 12 | 130 |
    | DiT-L/2 | 1024 | 24 | 16 | 458 |
    | DiT-XL/2 | 1152 | 28 | 16 | 675 |

    Args:
        image_size: side, or (height, width), in pixels.
        channels: of the image: 1 for grey, 3 for colour, or any other number.
        patch_size: side of a patch, in pixels; it must divide both sides of the image.
        width: length of the tokens, a multiple of 4.
        depth: number of blocks, ≥ 1.
        heads: of the attention, a divisor of `width`.
        num_classes: number of classes, or of attributes, whose vectors are added to that of time.
        time_features: makes the features of time from their number, 256.

    Raises:
        UserError: if an argument is out of its range, or two do not suit each other.
    """

    positions: Tensor

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        patch_size: int = 2,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        num_classes: int | None = None,
        time_features: Callable[[int], TimeFeatures] = Sinusoidal,
    ) -> None:
        height, breadth = (image_size, image_size) if isinstance(image_size, int) else image_size
        super().__init__((channels, height, breadth), num_classes)
        check_at_least(self, 1, patch_size=patch_size, width=width, depth=depth, heads=heads)
        if height % patch_size or breadth % patch_size:
            raise UserError(f"DiT.patch_size is {patch_size}: it must divide both sides of image_size, {image_size}")
        if width % heads:
            raise UserError(f"DiT.heads is {heads}: it must divide width, which is {width}")
        if width % 4:
            raise UserError(f"DiT.width is {width}: it must be a multiple of 4, for sines and cosines of two positions")
        self.grid = height // patch_size, breadth // patch_size
        self.embedding = TimeEmbedding(time_features, _NUM_FEATURES, width, num_classes)
        self.entry = nn.Conv2d(channels, width, patch_size, stride=patch_size)
        self.register_buffer("positions", grid_positions(*self.grid, width), persistent=False)
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.exit = nn.Linear(width, channels * patch_size**2)
        self.unpatch = nn.PixelShuffle(patch_size)
        self._initialise()

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """As `TimeNetwork.forward`, of (B, C, H, W) images."""
        embedding = self.embedding(t, y, dropped)
        h = self.entry(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            h = block(h, embedding)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=2)
        h = self.exit(modulate(self.norm(h), shift, scale))
        return self.unpatch(h.transpose(1, 2).unflatten(2, self.grid))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.zeros_(cast("Tensor", module.bias))
        zeros = [self.modulation, self.exit, *(cast("DiTBlock", block).modulation for block in self.blocks)]
        for module in zeros:
            nn.init.zeros_(module.weight)
        embedding = self.embedding
        normal = [embedding.first.weight, embedding.second.weight]
        if embedding.condition is not None:
            normal += [embedding.condition.embed.weight, embedding.condition.nothing]
        for weight in normal:
            nn.init.normal_(weight, 0.0, _STD)


class DiTBlock(nn.Module):
    """x + α₁ attention(γ₁, β₁ ∘ LN(x)), then x + α₂ perceptron(γ₂, β₂ ∘ LN(x)); α, β, γ linear in the embedding.

    All three are 0 at the start ("adaLN-Zero", §3.2): the block is the identity.

    Args:
        width: length of the tokens, and of the embedding.
        heads: of the attention, a divisor of `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.attention = TokenAttention(width, heads)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, N, width) tokens, and (B, width) embeddings, to tokens."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(embedding)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + gate2 * self.perceptron(modulate(self.norm2(x), shift2, scale2))


class TokenAttention(nn.Module):
    """Multi-head self-attention of every token to every other (Vaswani et al., NIPS 2017, eq. 1).

    Args:
        width: length of the tokens.
        heads: a divisor of `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to the same shape."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) x + shift."""
    return torch.addcmul(shift, x, 1 + scale)


def grid_positions(height: int, width: int, dim: int) -> Tensor:
    """Vectors of the places of a grid, row by row: half of each tells the column, half the row.

    Each half is sin(ω_k p), then cos(ω_k p), with ω_k = 10000^(−4k/d), k < d/4 (Vaswani et al., NIPS 2017, §3.5).

    Args:
        height: of the grid.
        width: of the grid.
        dim: length d of the vectors, a multiple of 4.

    Returns:
        (height · width, d).
    """
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(dim // 4) / (dim // 4))
    rows, columns = (torch.arange(n)[:, None] * frequencies for n in (height, width))
    row, column = (torch.cat((angles.sin(), angles.cos()), dim=1) for angles in (rows, columns))
    grid = torch.cat((column.expand(height, -1, -1), row[:, None].expand(-1, width, -1)), dim=2)
    return grid.flatten(0, 1)
