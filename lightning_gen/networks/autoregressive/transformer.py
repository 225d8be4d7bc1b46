"""A causal transformer over tokens (Radford et al., "Language models are unsupervised multitask learners", 2019)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.choice import choose
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.autoregressive.base import TokenModel
from lightning_gen.networks.conditioning import Embed
from lightning_gen.noise import Noise

_STD = 0.02  # of all weights at first, as in GPT-2


class CausalTransformer(TokenModel):
    """GPT-2's decoder, over the whole sequence of codes: one map or several, coarse to fine.

    The sequence begins with a token of the class, or with one that is always the same. Every place in every map has its
    own learnt position. Input and output embeddings are not tied.

    Args:
        num_tokens: K; the first stage's.
        shapes: of the maps of codes; the first stage's.
        width: length of the vectors.
        depth: number of blocks, ≥ 1.
        heads: of the attention, a divisor of `width`.
        dropout: of the embeddings, attention weights and branches, in [0, 1).
        num_classes: classes, or attributes, are embedded as the first token.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        num_tokens: int,
        shapes: tuple[tuple[int, ...], ...],
        width: int = 256,
        depth: int = 6,
        heads: int = 8,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(num_tokens, shapes, num_classes)
        check_at_least(self, 1, width=width, depth=depth, heads=heads)
        if width % heads:
            raise UserError(f"CausalTransformer.heads is {heads}: it must divide width, which is {width}")
        check_dropout(self, dropout)
        self.start = Embed(num_classes or 1, width)
        self.embed = nn.Embedding(num_tokens, width)
        self.positions = nn.Parameter(torch.empty(self.length, width))
        self.dropout = nn.Dropout(dropout)
        blocks = nn.ModuleList(CausalBlock(width, heads, dropout) for _ in range(depth))
        self.blocks = cast("list[CausalBlock]", blocks)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_tokens, bias=False))
        self._initialise(depth)

    def forward(self, tokens: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits (B, N, K) of (B, N) int64 tokens."""
        h = torch.cat((self._start(len(tokens), y), self.embed(tokens[:, :-1])), dim=1)
        h = self.dropout(h + self.positions)
        for block in self.blocks:
            h = block(h)
        return self.head(h)

    @torch.no_grad()
    def draw(self, noise: Noise, y: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """As `TokenModel.draw`; each token is computed once, its keys and values are kept."""
        uniform = noise.uniform(self.length)
        tokens = torch.zeros(len(noise), self.length, dtype=torch.int64, device=noise.device)
        caches = [block.attention.cache(len(noise), self.length) for block in self.blocks]
        for i in range(self.length):
            h = self.embed(tokens[:, i - 1 : i]) if i else self._start(len(noise), y)
            h = self.dropout(h + self.positions[i])
            for block, cache in zip(self.blocks, caches, strict=True):
                h = block.step(h, cache, i)
            tokens[:, i] = choose(self.head(h)[:, 0] / temperature, uniform[:, i])
        return tokens

    def _start(self, batch: int, y: Tensor | None) -> Tensor:
        """The first token, (B, 1, width)."""
        if self.num_classes is None:
            return self.start.weight.expand(batch, 1, -1)
        assert y is not None
        return self.start(y)[:, None].to(self.positions.dtype)

    def _initialise(self, depth: int) -> None:
        nn.init.normal_(self.positions, 0.0, _STD)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, 0.0, _STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, weight in self.named_parameters():  # there are 2·depth branches on the residual stream
            if name.endswith(("attention.out.weight", "perceptron.2.weight")):
                nn.init.normal_(weight, 0.0, _STD * (2 * depth) ** -0.5)


class CausalBlock(nn.Module):
    """Attention and a perceptron, each after layer norm and on a branch of its own.

    Args:
        width: length of the vectors.
        heads: of the attention.
        dropout: of attention weights and branches.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads, dropout)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.perceptron(self.norm2(x))

    def step(self, x: Tensor, cache: Tensor, place: int) -> Tensor:
        """The same for one place, (B, 1, width), given a cache that holds those before it."""
        x = x + self.attention.step(self.norm1(x), cache, place)
        return x + self.perceptron(self.norm2(x))


class CausalAttention(nn.Module):
    """Multi-head self-attention of each place to itself and those before it.

    Args:
        width: length of the vectors.
        heads: a divisor of `width`.
        dropout: of the weights, and of what comes out.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to the same shape."""
        query, key, value = self._heads(x)
        rate = self.rate if self.training else 0.0
        return self._merged(F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True))

    def cache(self, batch: int, length: int) -> Tensor:
        """Room for the keys and values of a sequence, (2, B, heads, N, width / heads)."""
        weight = self.out.weight
        return weight.new_empty(2, batch, self.heads, length, len(weight) // self.heads)

    def step(self, x: Tensor, cache: Tensor, place: int) -> Tensor:
        """Map (B, 1, width), at one place, to the same shape, and keep its key and value."""
        query, *kept = self._heads(x)
        cache[:, :, :, place] = torch.stack(kept)[:, :, :, 0]
        keys, values = cache[:, :, :, : place + 1].to(query.dtype)
        return self._merged(F.scaled_dot_product_attention(query, keys, values))

    def _heads(self, x: Tensor) -> Tensor:
        """Queries, keys and values, (3, B, heads, N, width / heads)."""
        return self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def _merged(self, mixed: Tensor) -> Tensor:
        return self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
