"""Self-attention over the positions of a map (Zhang et al., "Self-Attention GANs", ICML 2019, §3)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError


class VisibleAttention(ABC):
    """Attention whose weights one can look at; mixed into modules that map (B, C, H, W) to the same shape."""

    @abstractmethod
    def attention_map(self, x: Tensor) -> Tensor:
        """The weights that `forward` gives each position in the sums of all others.

        Args:
            x: (B, C, H, W) what `forward` would be given.

        Returns:
            (B, heads, N, M) weights of M = h·w keys for N = H·W queries, both counted row by row; over keys they sum
            to one.
        """

    def key_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the keys of an (H, W) map: its own, unless keys are pooled."""
        return height, width


class SelfAttention(nn.Module, VisibleAttention):
    """x + γ·v(softmax(f(x)ᵀ g(x)) h(x)), with γ = 0 at the start (eqs. 1 to 3).

    All maps are 1×1 convolutions without bias; queries and keys have C/8 channels, values C/2. Keys and values are
    max-pooled by 2 (§3, "memory efficiency"; so are the authors' programs).

    Args:
        channels: of the map, C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner, value = max(channels // 8, 1), max(channels // 2, 1)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, value, 1, bias=False)
        self.out = nn.Conv2d(value, channels, 1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape; H, W ≥ 2."""
        # Written out: the fused kernels cannot be differentiated twice, as gradient penalties do.
        weights, value = self._weights(x), self.pool(self.value(x)).flatten(2)
        return x + self.gamma * self.out((value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]))

    def attention_map(self, x: Tensor) -> Tensor:
        """(B, 1, HW, ⌊H/2⌋⌊W/2⌋): there is one head, and keys are pooled."""
        return self._weights(x)[:, None]

    def key_size(self, height: int, width: int) -> tuple[int, int]:
        """Half of each side."""
        return height // 2, width // 2

    def _weights(self, x: Tensor) -> Tensor:
        query, key = self.query(x).flatten(2), self.pool(self.key(x)).flatten(2)
        return (query.transpose(1, 2) @ key).softmax(dim=2)


def chosen_maps(resolutions: Sequence[int], sizes: Sequence[tuple[int, int]]) -> set[int]:
    """Which of several maps attend to themselves: the first one of each chosen resolution.

    Args:
        resolutions: smaller sides, in pixels, of the maps to attend over.
        sizes: (height, width) of the maps, in order.

    Returns:
        Their places in `sizes`.

    Raises:
        UserError: if there is no map of a resolution.
    """
    sides = [min(size) for size in sizes]
    missing = sorted(set(resolutions) - set(sides))
    if missing:
        raise UserError(
            f"attention at {missing[0]} pixels is not possible: the maps of this network have smaller sides"
            f" {', '.join(map(str, sorted(set(sides))))}"
        )
    return {sides.index(resolution) for resolution in resolutions}


def attention_at(
    resolutions: Sequence[int], sizes: Sequence[tuple[int, int]], channels: Sequence[int]
) -> list[nn.Module]:
    """What follows each of several maps: self-attention after the first one of each chosen resolution, or nothing.

    Args:
        resolutions: smaller sides, in pixels, of the maps to attend over.
        sizes: (height, width) of the maps, in order.
        channels: of the maps.

    Raises:
        UserError: if there is no map of a resolution.
    """
    chosen = chosen_maps(resolutions, sizes)
    return [SelfAttention(width) if k in chosen else nn.Identity() for k, width in enumerate(channels)]


def attended(blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> list[nn.Module]:
    """Each block in one module with the attention that follows it, where there is one."""
    pairs = zip(blocks, attentions, strict=True)
    return [block if isinstance(after, nn.Identity) else nn.Sequential(block, after) for block, after in pairs]
