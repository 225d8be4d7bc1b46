"""From features of the pixels before to the parameters of a pixel, turn by turn."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.networks.pixel.scan import CausalConv, Scan


class PixelHead(nn.Module):
    """W₂ ReLU(W₁ features + V x + b₁) + b₂ for each turn, in which V sees the channels of turns before it alone.

    With one turn there is no V. So the channels of a pixel depend on each other in order, whatever made the features.

    Args:
        in_channels: of the features.
        width: hidden units of a turn.
        channels: C of the image.
        num_parameters: P, of a turn.
        num_turns: T, 1 or C.
    """

    def __init__(self, in_channels: int, width: int, channels: int, num_parameters: int, num_turns: int) -> None:
        super().__init__()
        self.channels, self.num_turns = channels, num_turns
        self.features = CausalConv(in_channels, num_turns * width)
        self.pixel = OrderedChannels(channels, width) if num_turns > 1 else None
        self.out = GroupedConv(num_turns * width, num_turns * num_parameters, num_turns)

    def forward(self, features: Tensor, canvas: Tensor, scan: Scan) -> Tensor:
        """Parameters (B, P, T, h, w) from (B, in_channels, h, w) features and the canvas."""
        hidden = self.features(features, scan)
        if self.pixel is not None:
            hidden = hidden + self.pixel(scan.at(canvas[:, : self.channels]))
        return self.out(F.relu(hidden)).unflatten(1, (self.num_turns, -1)).transpose(1, 2)


class OrderedChannels(nn.Module):
    """Linear maps of a pixel's channels, (B, C, h, w) → (B, C·width, h, w): the c-th block sees channels before c.

    Args:
        channels: C.
        width: of a block.
    """

    mask: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels * width, channels))
        nn.init.uniform_(self.weight, -(channels**-0.5), channels**-0.5)
        turn = torch.arange(channels).repeat_interleave(width)
        mask = (torch.arange(channels) < turn[:, None]).to(self.weight)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Every pixel by itself."""
        return F.conv2d(x, (self.weight * self.mask)[:, :, None, None])


class GroupedConv(nn.Conv2d):
    """A 1×1 convolution of each of several groups of channels by itself.

    Args:
        in_channels: of all groups.
        out_channels: of all groups.
        groups: their number.
    """

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__(in_channels, out_channels, 1, groups=groups)
