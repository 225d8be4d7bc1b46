"""Residual blocks of SNGAN and BigGAN, and the discriminator that they make (Miyato et al., ICLR 2018, appendix B)."""

from abc import ABC
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.networks.base import Discriminator, Judgement
from lightning_gen.networks.heads import Head
from lightning_gen.networks.initialise import ResidualConv2d


class UpBlock(nn.Module):
    """Pre-activated residual block that doubles the map.

    The shortcut's 1×1 convolution comes before the interpolation, with which it commutes, at a quarter of the cost.

    Args:
        before: channels of the input.
        after: channels of the output.
        norm: makes a normalisation of so many channels; called with the map and whatever else the block is given.
        upsample: interpolation, "nearest" or "bilinear".
    """

    def __init__(
        self,
        before: int,
        after: int,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        upsample: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(before), norm(after)
        self.conv1 = ResidualConv2d(before, after)
        self.conv2 = ResidualConv2d(after, after)
        self.shortcut = nn.Conv2d(before, after, 1)
        self.up = nn.Upsample(scale_factor=2, mode=upsample)

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        """Map (B, before, H, W), and (B, d) conditions where norms need them, to (B, after, 2H, 2W)."""
        h = self.conv1(self.up(F.relu(self.norm1(x, *condition), inplace=True)))
        h = self.conv2(F.relu(self.norm2(h, *condition), inplace=True))
        return h + self.up(self.shortcut(x))


class InputBlock(nn.Module):
    """The first residual block of a discriminator: halves the image, and does not activate it first.

    Args:
        channels: of the image.
        after: channels of the output.
    """

    def __init__(self, channels: int, after: int) -> None:
        super().__init__()
        self.conv1 = ResidualConv2d(channels, after)
        self.conv2 = ResidualConv2d(after, after)
        self.shortcut = nn.Conv2d(channels, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, after, H/2, W/2)."""
        h = self.conv2(F.relu(self.conv1(x), inplace=True))
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))


class DownBlock(nn.Module):
    """Pre-activated residual block of a discriminator. The shortcut sees the input as it is, not activated in place.

    The shortcut's 1×1 convolution follows the average pooling, with which it commutes.

    Args:
        before: channels of the input.
        after: channels of the output.
        hidden: channels in between.
        pool: `nn.AvgPool2d(2)` to halve the map, `nn.Identity()` to keep it.
    """

    def __init__(self, before: int, after: int, hidden: int, pool: nn.Module) -> None:
        super().__init__()
        self.conv1 = ResidualConv2d(before, hidden)
        self.conv2 = ResidualConv2d(hidden, after)
        self.pool = pool
        plain = before == after and isinstance(pool, nn.Identity)
        self.shortcut = nn.Identity() if plain else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H, W), or half the size."""
        h = self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))
        return self.pool(h) + self.shortcut(self.pool(x))


class PooledDiscriminator(Discriminator, ABC):
    """Blocks, ReLU, a sum or mean over positions, and a head.

    Args:
        blocks: from the image to the last map, in stages as one freezes them.
        head: of the last map's channels.
        pooling: "sum" or "mean".
        num_classes: number of classes, or of attributes; None for an unconditional network.
    """

    def __init__(
        self, blocks: list[nn.Module], head: Head, pooling: Literal["sum", "mean"], num_classes: int | None
    ) -> None:
        super().__init__(num_classes)
        self.blocks = nn.Sequential(*blocks)
        self.head = head
        self.pool = {"sum": torch.sum, "mean": torch.mean}[pooling]

    def forward(self, x: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, C, H, W) images in [-1, 1] of (B,) classes, or (B, K) attributes."""
        h = F.relu(self.blocks(x))
        return self.head(self.pool(h, dim=(2, 3)), y)

    def stages(self) -> list[nn.Module]:
        """The blocks, each with the attention that follows it, then the head."""
        return [*self.blocks, self.head]
