"""PixelCNN (van den Oord et al., "Pixel Recurrent Neural Networks", ICML 2016, arXiv:1601.06759)."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.pixel.base import PixelNetwork
from lightning_gen.networks.pixel.scan import HERE, CausalConv, Scan, Window


class MaskedConv(CausalConv):
    """A convolution that sees pixels before each pixel, and of its own channels those of some turns.

    Channels belong to turns. In the pixel itself, an output of turn t sees inputs of turns before t (mask A) and, with
    mask B, of turn t, too (§3.4, figure 2). Kernels end at the pixel's row: below it they would be zero.

    Args:
        in_turns: (in_channels,) the turn of each channel.
        out_turns: (out_channels,) likewise.
        reach: k: the kernel is one of side 2k + 1, cut.
        own: whether inputs of the same turn are seen: mask B.
    """

    mask: Tensor

    def __init__(self, in_turns: Tensor, out_turns: Tensor, reach: int = 0, own: bool = True) -> None:
        super().__init__(len(in_turns), len(out_turns), Window(reach, reach, reach, 0) if reach else HERE)
        mask = torch.ones_like(self.weight)
        mask[:, :, -1, reach + 1 :] = 0
        seen = in_turns <= out_turns[:, None] if own else in_turns < out_turns[:, None]
        mask[:, :, -1, reach] = seen.to(mask)
        self.register_buffer("mask", mask.detach(), persistent=False)

    def kernel(self) -> Tensor:
        """Weights times mask."""
        return self.weight * self.mask


class MaskedPixelCNN(PixelNetwork):
    """Masked convolutions in residual blocks (table 1 and figure 5, left).

    The first layer has mask A, all others mask B; with several turns every feature belongs to one of them, so that R
    tells G, and both tell B. Stacked masked kernels have a blind spot: to the upper right a pixel sees d rows up
    `first_kernel_size` // 2 + d − 1 columns and no further, however deep the network. `GatedPixelNetwork` has none.

    Args:
        sample_shape: (C, H, W); the family's.
        num_parameters: P; the likelihood's.
        num_turns: T; the likelihood's.
        width: features h inside of the blocks, at least T; 2h between them.
        depth: number of blocks, ≥ 0.
        first_kernel_size: side of the first kernel before it is cut, odd, ≥ 3.
        kernel_size: side of the kernels in the blocks, likewise.
        head_width: features of the two last layers.
        dropout: in the blocks, in [0, 1).
        num_classes: classes, or attributes, add to the first features.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        num_parameters: int,
        num_turns: int,
        width: int = 64,
        depth: int = 7,
        first_kernel_size: int = 7,
        kernel_size: int = 3,
        head_width: int = 128,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_parameters, num_turns, num_classes)
        check_at_least(self, num_turns, width=width, head_width=head_width)
        check_at_least(self, 0, depth=depth)
        check_kernels(self, first_kernel_size=first_kernel_size, kernel_size=kernel_size)
        check_dropout(self, dropout)
        channels = sample_shape[0]
        pixel = torch.arange(channels) * num_turns // channels
        ones = torch.tensor([-1])  # seen in every turn
        trunk, last = torch.arange(2 * width) % num_turns, torch.arange(head_width) % num_turns
        self.first = MaskedConv(torch.cat((pixel, ones)), trunk, first_kernel_size // 2, own=False)
        self.embed = Embed(num_classes, 2 * width) if num_classes else None
        blocks = nn.ModuleList(_Block(trunk, width, num_turns, kernel_size // 2, dropout) for _ in range(depth))
        self.blocks = cast("list[_Block]", blocks)
        self.hidden = MaskedConv(trunk, last)
        self.out = MaskedConv(last, torch.arange(num_turns).repeat(num_parameters))

    def within(self, canvas: Tensor, before: list[Tensor], y: Tensor | None, scan: Scan) -> Tensor:
        """All of it: features belong to turns."""
        h = scan.look(self.first, canvas)
        if self.embed is not None:
            assert y is not None
            h = h + self.embed(y).to(h.dtype)[:, :, None, None]
        for block in self.blocks:
            h = block(h, scan)
        h = self.out(F.relu(self.hidden(F.relu(h), scan)), scan)
        return h.unflatten(1, (self.num_parameters, self.num_turns))


class _Block(nn.Module):
    """x + f(x), f a 1×1, a k×k and a 1×1 convolution, each after a ReLU (figure 5, left).

    Args:
        turns: (2·width,) of the features.
        width: features inside.
        num_turns: T.
        reach: of the kernel.
        dropout: before the last convolution.
    """

    def __init__(self, turns: Tensor, width: int, num_turns: int, reach: int, dropout: float) -> None:
        super().__init__()
        inner = torch.arange(width) % num_turns
        self.down, self.across = MaskedConv(turns, inner), MaskedConv(inner, inner, reach)
        self.dropout = nn.Dropout(dropout)
        self.up = MaskedConv(inner, turns)

    def forward(self, x: Tensor, scan: Scan) -> Tensor:
        """Map (B, 2·width, h, w) to the same shape."""
        h = self.across(F.relu(self.down(F.relu(x), scan)), scan)
        return x + self.up(self.dropout(F.relu(h)), scan)


def check_kernels(network: nn.Module, **sizes: int) -> None:
    """Refuse sides of kernels that are even, or below 3."""
    for key, size in sizes.items():
        if size < 3 or size % 2 == 0:
            raise UserError(f"{type(network).__name__}.{key} is {size}: it must be odd and at least 3")
