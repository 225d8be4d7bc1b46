"""Networks of couplings: from what is kept to the parameters of what is changed."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_gen.bijections.image.actnorm import ChannelAffine
from lightning_gen.losses.arguments import check_at_least

_FACTOR = 3.0


class CouplingNetwork(nn.Module, ABC):
    """A map of parameters from a map of what a coupling keeps, of the same size, and features of a condition.

    Args:
        in_channels: of what is kept.
        out_channels: number of parameters a pixel.
        num_features: length F of the features; None for none.
    """

    def __init__(self, in_channels: int, out_channels: int, num_features: int | None = None) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.num_features = in_channels, out_channels, num_features

    @abstractmethod
    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W) and (B, F) → (B, out_channels, H, W)."""


class ConditionBias(nn.Module):
    """Adds to each channel of a map a number that is linear in the features, or nothing where there are none.

    Args:
        num_features: length F of the features; None for none.
        channels: of the map.
    """

    def __init__(self, num_features: int | None, channels: int) -> None:
        super().__init__()
        self.linear = None if num_features is None else nn.Linear(num_features, channels, bias=False)

    def forward(self, x: Tensor, h: Tensor | None) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        if self.linear is None:
            return x
        assert h is not None
        return x + self.linear(h).to(x.dtype)[:, :, None, None]


class ZeroConvolution(CouplingNetwork):
    """A convolution of 3×3 pixels that gives 0 at first, then (W ∗ x + b + V h) · exp(3 a).

    As in the authors' program of Kingma, Dhariwal, "Glow", NeurIPS 2018, §3.3; a is learnt for each channel.

    Args:
        in_channels: of what is kept.
        out_channels: number of parameters a pixel.
        num_features: length F of the features; None for none.
    """

    def __init__(self, in_channels: int, out_channels: int, num_features: int | None = None) -> None:
        super().__init__(in_channels, out_channels, num_features)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.condition = ConditionBias(num_features, out_channels)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.log_gain = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W) and (B, F) → (B, out_channels, H, W)."""
        return self.condition(self.conv(x), h) * (_FACTOR * self.log_gain).exp()


class ThreeLayerNetwork(CouplingNetwork):
    """Convolutions of 3×3, 1×1 and 3×3 pixels, the last of which gives 0 at first (Kingma, Dhariwal, 2018, §3.3).

    Hidden channels are normalised over the first batch of training (`ChannelAffine`), as in the authors' program.
    Features of a condition add to the first hidden layer.

    Args:
        in_channels: of what is kept.
        out_channels: number of parameters a pixel.
        num_features: length F of the features; None for none.
        width: hidden channels, ≥ 1.

    Raises:
        UserError: if the width is below 1.
    """

    def __init__(self, in_channels: int, out_channels: int, num_features: int | None = None, width: int = 512) -> None:
        super().__init__(in_channels, out_channels, num_features)
        check_at_least(self, 1, width=width)
        self.conv1, self.norm1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False), ChannelAffine(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 1, bias=False), ChannelAffine(width)
        self.condition = ConditionBias(num_features, width)
        self.last = ZeroConvolution(width, out_channels)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W) and (B, F) → (B, out_channels, H, W)."""
        hidden = F.relu(self.condition(self.norm1(self.conv1(x)), h))
        return self.last(F.relu(self.norm2(self.conv2(hidden))))


class ResidualNetwork(CouplingNetwork):
    """A residual network with weight norm, all layers of which add to its output (Dinh et al., ICLR 2017, §3.7).

    Batch norm is replaced by `ChannelAffine`, which starts alike and does not depend on the batch from then on. The
    last layer gives 0 at first.

    Args:
        in_channels: of what is kept.
        out_channels: number of parameters a pixel.
        num_features: length F of the features; None for none.
        width: hidden channels, ≥ 1.
        depth: residual blocks, ≥ 0.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_features: int | None = None,
        width: int = 64,
        depth: int = 8,
    ) -> None:
        super().__init__(in_channels, out_channels, num_features)
        check_at_least(self, 1, width=width)
        check_at_least(self, 0, depth=depth)
        self.first = weight_norm(nn.Conv2d(2 * in_channels, width, 3, padding=1))
        self.condition = ConditionBias(num_features, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.skips = nn.ModuleList(weight_norm(nn.Conv2d(width, width, 1)) for _ in range(depth + 1))
        self.norm = ChannelAffine(width)
        self.last = ZeroConvolution(width, out_channels)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        """(B, in_channels, H, W) and (B, F) → (B, out_channels, H, W)."""
        hidden = self.condition(self.first(F.relu(torch.cat((x, -x), dim=1))), h)
        total = self.skips[0](hidden)
        for block, skip in zip(self.blocks, self.skips[1:], strict=True):
            hidden = block(hidden)
            total = total + skip(hidden)
        return self.last(F.relu(self.norm(total)))


class ResidualBlock(nn.Module):
    """x + f(x) with two convolutions of 3×3 pixels, each after a normalisation and a ReLU (He et al., ECCV 2016).

    Args:
        width: channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelAffine(width), weight_norm(nn.Conv2d(width, width, 3, padding=1))
        self.norm2, self.conv2 = ChannelAffine(width), weight_norm(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) → (B, width, H, W)."""
        hidden = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(hidden)))
