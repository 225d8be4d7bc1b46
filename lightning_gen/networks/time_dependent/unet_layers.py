"""What denoising U-Nets are made of: group norms that see the time, residual blocks, and levels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from lightning_gen.networks.autoencoders import MultiHeadSelfAttention
from lightning_gen.networks.autoencoders.self_attention import group_norm

# ---------------------------------------------------------------- how time and class enter a block


class TimeNorm(nn.Module, ABC):
    """Group norm of a map, given the vector of time and class."""

    @abstractmethod
    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, H, W), and (B, d) vectors, to (B, C, H, W)."""


class ShiftedNorm(TimeNorm):
    """GN(x + W e): the vector is added first (Ho et al., NeurIPS 2020, appendix B).

    Args:
        channels: of the map, C.
        embedding_dim: length d of the vector e.
    """

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.shift = nn.Linear(embedding_dim, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, H, W), and (B, d) vectors, to (B, C, H, W)."""
        return self.norm(x + self.shift(embedding)[:, :, None, None])


class ModulatedNorm(TimeNorm):
    """(1 + W_s e) GN(x) + W_b e: the vector sets scale and shift.

    Nichol, Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021; Dhariwal, Nichol, "Diffusion
    models beat GANs on image synthesis", NeurIPS 2021, eq. 3, as "adaptive group normalization".

    Args:
        channels: of the map, C.
        embedding_dim: length d of the vector e.
    """

    def __init__(self, channels: int, embedding_dim: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.modulation = nn.Linear(embedding_dim, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, H, W), and (B, d) vectors, to (B, C, H, W)."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(x), 1 + scale)


# ---------------------------------------------------------------- blocks


class TimeResidualBlock(nn.Module):
    """s (shortcut(x) + branch(x, e)), and s (x + attention(x)) of that where there is attention.

    Args:
        before: channels of the input.
        after: channels of the output.
        embedding_dim: length d of the vector of time and class.
        norm: makes the second normalisation from channels and d; the first is a plain group norm.
        dropout: probability of an entry of the hidden map to be dropped, in [0, 1).
        resample: changes the size of the map, on the branch and the shortcut alike.
        heads: of the self-attention after it; 0 for none.
        skip_scale: s.
    """

    def __init__(
        self,
        before: int,
        after: int,
        embedding_dim: int,
        norm: Callable[[int, int], TimeNorm] = ShiftedNorm,
        dropout: float = 0.0,
        resample: nn.Module | None = None,
        heads: int = 0,
        skip_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = group_norm(before), norm(after, embedding_dim)
        self.conv1, self.conv2 = (nn.Conv2d(width, after, 3, padding=1) for width in (before, after))
        self.dropout = nn.Dropout(dropout)
        self.resample = resample or nn.Identity()
        plain = before == after and resample is None
        self.shortcut = nn.Identity() if plain else nn.Conv2d(before, after, 1)
        self.attention = MultiHeadSelfAttention(after, heads) if heads else None
        self.skip_scale = skip_scale

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, before, H, W), and (B, d) vectors, to (B, after, H, W), or to the size that `resample` makes."""
        h = self.conv1(self.resample(silu(self.norm1(x))))
        h = self.conv2(self.dropout(silu(self.norm2(h, embedding))))
        h = (self.shortcut(self.resample(x)) + h) * self.skip_scale
        return h if self.attention is None else self.attention(h) * self.skip_scale


class Timeless(nn.Module):
    """A layer that does not look at the time, among others that do.

    Args:
        layer: of maps.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """The layer's map of x."""
        return self.layer(x)


class UpLevel(nn.Module):
    """One level of the way up: each block sees the last map of the way down that none has seen.

    Args:
        resample: doubles what comes from below; None on the smallest map.
        blocks: of two maps, concatenated.
    """

    def __init__(self, resample: nn.Module | None, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.resample = resample
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, embedding: Tensor, kept: list[Tensor]) -> Tensor:
        """Map (B, C, H, W), (B, d) vectors, and the maps of the way down, of which it takes the last, to a map."""
        if self.resample is not None:
            x = self.resample(x, embedding)
        for block in self.blocks:
            x = block(torch.cat((x, kept.pop()), dim=1), embedding)
        return x
