"""Self-attention over the positions of a map (Zhang et al., "Self-Attention GANs", ICML 2019, §3)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError


class SelfAttention(nn.Module):
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
        query = self.query(x).flatten(2)
        key, value = (self.pool(conv(x)).flatten(2) for conv in (self.key, self.value))
        # Written out: the fused kernels cannot be differentiated twice, as gradient penalties do.
        weights = (query.transpose(1, 2) @ key).softmax(dim=2)
        return x + self.gamma * self.out((value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]))


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
    sides = [min(size) for size in sizes]
    missing = sorted(set(resolutions) - set(sides))
    if missing:
        raise UserError(
            f"attention at {missing[0]} pixels is not possible: the maps of this network have smaller sides"
            f" {', '.join(map(str, sorted(set(sides))))}"
        )
    chosen = {sides.index(resolution) for resolution in resolutions}
    return [SelfAttention(width) if k in chosen else nn.Identity() for k, width in enumerate(channels)]


def attended(blocks: Sequence[nn.Module], attentions: Sequence[nn.Module]) -> list[nn.Module]:
    """Each block in one module with the attention that follows it, where there is one."""
    pairs = zip(blocks, attentions, strict=True)
    return [block if isinstance(after, nn.Identity) else nn.Sequential(block, after) for block, after in pairs]
