"""What convolutional encoders and decoders are made of: entries, residual blocks, and the ways down and up.

Blocks, sampling and the order of layers are VQGAN's (Esser et al., "Taming transformers for high-resolution image
synthesis", CVPR 2021, table 7), which took them from the denoising U-Net of Ho et al. (NeurIPS 2020).
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.attention import chosen_maps
from lightning_gen.networks.autoencoders.self_attention import MultiHeadSelfAttention, group_norm
from lightning_gen.networks.conditioning import Embed


class ClassConv2d(nn.Module):
    """A convolution whose bias depends on the class: as if indicators were constant maps beside the input.

    Args:
        before: channels of the input.
        after: channels of the output.
        kernel_size: side of the kernel.
        num_classes: number of classes, or of attributes; None for a plain convolution.
        stride: of the kernel.
        padding: zeros around the map.
    """

    def __init__(
        self, before: int, after: int, kernel_size: int, num_classes: int | None, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel_size, stride, padding)
        self.embed = Embed(num_classes, after) if num_classes else None
        if self.embed is not None:  # as large as the sum of one more input's taps
            nn.init.normal_(self.embed.weight, 0.0, kernel_size * (3 * before * kernel_size**2) ** -0.5)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, before, H, W) maps, and (B,) classes or (B, K) attributes, to (B, after, H', W')."""
        h = self.conv(x)
        if self.embed is None:
            return h
        assert y is not None
        return h + self.embed(y).to(h.dtype)[:, :, None, None]


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); the shortcut is a 1×1 convolution where channels change.

    Args:
        before: channels of the input.
        after: channels of the output.
        dropout: probability of an entry of the hidden map to be dropped, in [0, 1).
    """

    def __init__(self, before: int, after: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            group_norm(before),
            nn.SiLU(),
            nn.Conv2d(before, after, 3, padding=1),
            group_norm(after),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H, W)."""
        return self.shortcut(x) + self.branch(x)


class Downsample(nn.Module):
    """Halves a map by a 3×3 convolution of stride 2 that is padded below and to the right only.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H/2, W/2), for even H and W."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles a map by nearest neighbours and a 3×3 convolution.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def level_sizes(part: object, image_size: int | tuple[int, int], levels: int) -> list[tuple[int, int]]:
    """(height, width) of an image and of what remains after each of `levels` − 1 halvings.

    Raises:
        UserError: if a side cannot be halved so often.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    factor = 2 ** (levels - 1)
    if min(height, width) < factor or height % factor or width % factor:
        raise UserError(
            f"{type(part).__name__}.image_size is {image_size}: both sides must be multiples of {factor}, since its"
            f" {levels} levels halve them {levels - 1} times"
        )
    return [(height >> k, width >> k) for k in range(levels)]


def way_down(
    sizes: Sequence[tuple[int, int]],
    widths: Sequence[int],
    depth: int,
    attention: Sequence[int],
    heads: int,
    dropout: float,
) -> list[nn.Module]:
    """Residual blocks at every level, and a halving from each level to the next.

    Args:
        sizes: (height, width) of the map at each level, from the image down.
        widths: channels at each level; the input has the first.
        depth: residual blocks a level, ≥ 1.
        attention: smaller sides of the maps at whose level self-attention follows every block.
        heads: of the self-attention.
        dropout: in the blocks.
    """
    layers: list[nn.Module] = []
    chosen = chosen_maps(attention, sizes)
    for k, (before, after) in enumerate(pairwise([widths[0], *widths])):
        layers += [Downsample(before)] if k else []
        layers += _level(before, after, depth, k in chosen, heads, dropout)
    return layers


def way_up(
    sizes: Sequence[tuple[int, int]],
    widths: Sequence[int],
    depth: int,
    attention: Sequence[int],
    heads: int,
    dropout: float,
) -> list[nn.Module]:
    """The mirror image of `way_down`, with the same arguments: from the last level's map to the first one's."""
    layers: list[nn.Module] = []
    chosen = chosen_maps(attention, sizes)
    last = len(widths) - 1
    for k, (before, after) in enumerate(pairwise([widths[-1], *reversed(widths)])):
        layers += [Upsample(before)] if k else []
        layers += _level(before, after, depth, last - k in chosen, heads, dropout)
    return layers


def middle(width: int, heads: int, dropout: float) -> list[nn.Module]:
    """A residual block, self-attention, and another residual block, on the smallest map."""
    return [
        ResidualBlock(width, width, dropout),
        MultiHeadSelfAttention(width, heads),
        ResidualBlock(width, width, dropout),
    ]


def check_stages(part: object, width: int, depth: int, dropout: float) -> None:
    """Raise `UserError` if one of these arguments of `part` is out of its range."""
    check_at_least(part, 1, width=width, depth=depth)
    check_dropout(part, dropout)


def check_sides(part: object, x: Tensor, factor: int) -> None:
    """Raise `RuntimeError` unless the sides of maps (B, C, H, W) are multiples of a number."""
    height, width = x.shape[2:]
    if height % factor or width % factor:
        raise RuntimeError(
            f"{type(part).__name__} got maps of {height}×{width} pixels: both sides must be multiples of {factor}"
        )


def _level(before: int, after: int, depth: int, attends: bool, heads: int, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [ResidualBlock(before if k == 0 else after, after, dropout)]
        layers += [MultiHeadSelfAttention(after, heads)] if attends else []
    return layers
