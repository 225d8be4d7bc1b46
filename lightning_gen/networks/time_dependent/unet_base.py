"""What denoising U-Nets have in common: a way down, a middle, and a way up that sees every map of the way down."""

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.attention import chosen_maps
from lightning_gen.networks.autoencoders import MultiHeadSelfAttention
from lightning_gen.networks.autoencoders.self_attention import group_norm
from lightning_gen.networks.autoencoders.stages import level_sizes
from lightning_gen.networks.time_dependent.base import TimeNetwork
from lightning_gen.networks.time_dependent.unet_layers import TimeResidualBlock, UpLevel


@dataclass(frozen=True)
class UNetParts:
    """What U-Nets differ in.

    Attributes:
        embedding: of (t, y, dropped), what blocks see.
        block: from channels before and after, and whether it attends.
        down: halves a map of so many channels.
        up: doubles a map of so many channels.
        attending_up: which blocks of a level attend on the way up, where those of the level do.
        branch_gain: of the weights with which residual branches and the network end.
        attention_gain: of the weights of queries, keys and values.
    """

    embedding: nn.Module
    block: Callable[[int, int, bool], nn.Module]
    down: Callable[[int], nn.Module]
    up: Callable[[int], nn.Module]
    attending_up: Sequence[bool]
    branch_gain: float = 0.0
    attention_gain: float = 1.0


class SkipConnected(TimeNetwork, ABC):
    """Halves a map level by level, doubles it again, and shows the way up every map of the way down.

    Weights start from U(±√(6 / (fan in + fan out))), biases from 0.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: of the image.
        width: channels of the first map, before they are multiplied.
        multipliers: channels of each level relative to `width`; as many levels as there are numbers.
        num_blocks: residual blocks a level on the way down; one more on the way up.
        attention: smaller sides, in pixels, of the maps that attend to themselves.
        num_classes: number of classes, or of attributes; None for an unconditional network.
        parts: what it is made of.

    Raises:
        UserError: on an image size or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int],
        channels: int,
        width: int,
        multipliers: Sequence[int],
        num_blocks: int,
        attention: Sequence[int],
        num_classes: int | None,
        parts: UNetParts,
    ) -> None:
        sizes = level_sizes(self, image_size, len(multipliers))
        super().__init__((channels, *sizes[0]), num_classes)
        chosen = chosen_maps(attention, sizes)
        widths = [width * multiplier for multiplier in multipliers]
        self.embedding = parts.embedding
        self.entry = nn.Conv2d(channels, width, 3, padding=1)
        kept, down = [width], []
        for k, after in enumerate(widths):
            down += [parts.down(kept[-1])] if k else []
            kept += [kept[-1]] if k else []
            for _ in range(num_blocks):
                down.append(parts.block(kept[-1], after, k in chosen))
                kept.append(after)
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList(parts.block(widths[-1], widths[-1], attends) for attends in (True, False))
        up, before = [], widths[-1]
        for k, after in reversed(list(enumerate(widths))):
            resample = None if k == len(widths) - 1 else parts.up(before)
            blocks = []
            for attends in parts.attending_up:
                blocks.append(parts.block(before + kept.pop(), after, attends and k in chosen))
                before = after
            up.append(UpLevel(resample, blocks))
        self.up = cast("list[UpLevel]", nn.ModuleList(up))
        self.exit = nn.Sequential(group_norm(before), nn.SiLU(), nn.Conv2d(before, channels, 3, padding=1))
        self._initialise(parts)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, dropped: Tensor | None = None) -> Tensor:
        """As `TimeNetwork.forward`, of (B, C, H, W) images."""
        embedding = self.embedding(t, y, dropped)
        kept = [h := self.entry(x)]
        for layer in self.down:
            kept.append(h := layer(h, embedding))
        for layer in self.middle:
            h = layer(h, embedding)
        for level in self.up:
            h = level(h, embedding, kept)
        return self.exit(h)

    @torch.no_grad()
    def _initialise(self, parts: UNetParts) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(cast("Tensor", module.bias))
        ends = [cast("nn.Conv2d", self.exit[-1]).weight]
        for module in self.modules():
            if isinstance(module, TimeResidualBlock):
                ends.append(module.conv2.weight)
            elif isinstance(module, MultiHeadSelfAttention):
                ends.append(module.out.weight)
                module.qkv.weight.mul_(parts.attention_gain)
        for weight in ends:
            weight.mul_(parts.branch_gain)


def check_unet(
    part: object, width: int, multipliers: Sequence[int], num_blocks: int, heads: int, dropout: float
) -> None:
    """Raise `UserError` if one of these arguments of `part` is out of its range."""
    check_at_least(part, 1, width=width, num_blocks=num_blocks, heads=heads)
    check_dropout(part, dropout)
    if not multipliers or min(multipliers) < 1:
        raise UserError(
            f"{type(part).__name__}.multipliers is {list(multipliers)}: it must be one or more numbers, each at least 1"
        )
    if width % 2:
        raise UserError(f"{type(part).__name__}.width is {width}: it must be even, since features of time are pairs")
