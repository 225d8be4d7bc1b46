"""BigGAN-deep's networks (Brock, Donahue, Simonyan, ICLR 2019, appendix B, figure 16, tables 7 to 9).

Bottleneck blocks of four convolutions, twice as many blocks, and shortcuts without a projection: the generator drops
channels, the discriminator concatenates new ones. The whole latent, beside the class embedding, enters every block.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.attention import attended, attention_at
from lightning_gen.networks.base import Generator
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.heads import Head, Projection
from lightning_gen.networks.initialise import Initialisation, Orthogonal, ResidualConv2d
from lightning_gen.networks.normalisation import ConditionalBatchNorm2d
from lightning_gen.networks.residual import PooledDiscriminator
from lightning_gen.networks.sizes import descend, discriminator_plan, generator_plan
from lightning_gen.networks.spectral import normalise_spectrally

_RATIO = 4  # of a block's channels to its bottleneck's


class DeepUpBlock(nn.Module):
    """Bottleneck block of the generator; the shortcut keeps the first `after` channels.

    Args:
        before: channels of the input.
        after: channels of the output, ≤ `before`.
        condition_dim: length of the condition of its batch norms.
        up: `nn.Upsample(scale_factor=2)` to double the map, `nn.Identity()` to keep it.
    """

    def __init__(self, before: int, after: int, condition_dim: int, up: nn.Module) -> None:
        super().__init__()
        hidden = before // _RATIO
        self.after = after
        self.norms = nn.ModuleList(ConditionalBatchNorm2d(n, condition_dim) for n in (before, hidden, hidden, hidden))
        self.reduce = nn.Conv2d(before, hidden, 1)
        self.conv1, self.conv2 = ResidualConv2d(hidden, hidden), ResidualConv2d(hidden, hidden)
        self.expand = nn.Conv2d(hidden, after, 1)
        self.up = up

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, before, H, W) under (B, d) conditions to (B, after, H, W), or twice the size."""
        h = self.reduce(F.relu(self.norms[0](x, condition), inplace=True))
        h = self.conv1(self.up(F.relu(self.norms[1](h, condition), inplace=True)))
        h = self.conv2(F.relu(self.norms[2](h, condition), inplace=True))
        h = self.expand(F.relu(self.norms[3](h, condition), inplace=True))
        return h + self.up(x[:, : self.after])


class DeepDownBlock(nn.Module):
    """Bottleneck block of the discriminator; the shortcut gains channels by a 1×1 convolution beside the old ones.

    Args:
        before: channels of the input.
        after: channels of the output, ≥ `before`.
        pool: `nn.AvgPool2d(2)` to halve the map, `nn.Identity()` to keep it.
    """

    def __init__(self, before: int, after: int, pool: nn.Module) -> None:
        super().__init__()
        hidden = after // _RATIO
        self.reduce = nn.Conv2d(before, hidden, 1)
        self.conv1, self.conv2 = ResidualConv2d(hidden, hidden), ResidualConv2d(hidden, hidden)
        self.expand = nn.Conv2d(hidden, after, 1)
        self.gain = nn.Conv2d(before, after - before, 1) if after > before else None
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, W) to (B, after, H, W), or half the size."""
        h = self.conv1(F.relu(self.reduce(F.relu(x)), inplace=True))
        h = self.conv2(F.relu(h, inplace=True))
        h = self.expand(self.pool(F.relu(h, inplace=True)))
        x = self.pool(x)
        return h + (x if self.gain is None else torch.cat((x, self.gain(x)), dim=1))


class BigGANDeepGenerator(Generator):
    """Doubles the projected latent and class up to the image by pairs of bottleneck blocks.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        latent_dim: length of the latent vector.
        width: channel unit, even; maps have 4 times as many up to 32 pixels, from 16 down to 1 times as many above.
        num_classes: classes enter through a shared embedding.
        shared_dim: length of that embedding.
        depth: blocks at each size, the last of which doubles it.
        attention: smaller sides, in pixels, of the maps that attend to themselves (16 of 32, 64 of 128).
        spectral_norm: on as in the paper; the embedding stays out of it.
        init: how weights start.

    Raises:
        UserError: on an image size, width or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 128,
        num_classes: int | None = None,
        shared_dim: int = 128,
        depth: int = 2,
        attention: list[int] | tuple[int, ...] = (),
        spectral_norm: bool = True,
        init: Callable[[], Initialisation] = Orthogonal,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        (height, breadth), multipliers = generator_plan(image_size)
        maps = _maps(width, multipliers)
        condition_dim = latent_dim + (shared_dim if num_classes else 0)
        self.base = (maps[0], height, breadth)
        self.embed = Embed(num_classes, shared_dim) if num_classes else None
        self.project = nn.Linear(condition_dim, maps[0] * height * breadth)
        blocks, sizes = [], []
        for k, (before, after) in enumerate(pairwise(maps)):
            same = [DeepUpBlock(before, before, condition_dim, nn.Identity()) for _ in range(depth - 1)]
            blocks += [*same, DeepUpBlock(before, after, condition_dim, nn.Upsample(scale_factor=2))]
            sizes += [(height << k, breadth << k)] * len(same) + [(height << k + 1, breadth << k + 1)]
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attention_at(attention, sizes, [block.after for block in blocks]))
        self.image = nn.Sequential(
            nn.BatchNorm2d(maps[-1]), nn.ReLU(inplace=True), nn.Conv2d(maps[-1], channels, 3, padding=1), nn.Tanh()
        )
        init()(self)
        if spectral_norm:
            normalise_spectrally(self.project, self.blocks, self.attentions, self.image)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, C, H, W) images in [-1, 1]."""
        condition = z
        if self.embed is not None:
            assert y is not None
            condition = torch.cat((self.embed(y), z), dim=1)
        h = self.project(condition).unflatten(1, self.base)
        for block, attend in zip(self.blocks, self.attentions, strict=True):
            h = attend(block(h, condition))
        return self.image(h)


class BigGANDeepDiscriminator(PooledDiscriminator):
    """A convolution, then groups of bottleneck blocks down to a small map, summed over positions and judged.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channel unit, even; maps have 4 times as many up to 32 pixels, from 1 up to 16 times as many above.
        num_classes: what becomes of the classes is the head's affair.
        head: what is read off the pooled map.
        depth: blocks at each size, the first of which halves it.
        attention: smaller sides, in pixels, of the maps that attend to themselves (16 of 32, 64 of 128).
        spectral_norm: on as in the paper, the head included.
        init: how weights start.

    Raises:
        UserError: on an image size, width or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 128,
        num_classes: int | None = None,
        head: Callable[[int, int | None], Head] = Projection,
        depth: int = 2,
        attention: list[int] | tuple[int, ...] = (),
        spectral_norm: bool = True,
        init: Callable[[], Initialisation] = Orthogonal,
    ) -> None:
        halvings, multipliers = discriminator_plan(image_size)
        small = min(multipliers) == max(multipliers)
        maps = _maps(width, (4,) * 4 if small else multipliers)
        groups: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(maps)):
            first = DeepDownBlock(before, after, nn.AvgPool2d(2) if k < halvings else nn.Identity())
            groups += [nn.Sequential(first, *(DeepDownBlock(after, after, nn.Identity()) for _ in range(depth - 1)))]
        attentions = attention_at(attention, descend(image_size, halvings, len(groups)), maps[1:])
        entry = nn.Conv2d(channels, maps[0], 3, padding=1)
        super().__init__([entry, *attended(groups, attentions)], head(maps[-1], num_classes), "sum", num_classes)
        init()(self)
        if spectral_norm:
            normalise_spectrally(self)


def _maps(width: int, multipliers: tuple[int, ...]) -> list[int]:
    if width < 2 or width % 2:
        raise UserError(f"width is {width}: BigGAN-deep's bottlenecks need a positive even number")
    return [width * multiplier for multiplier in multipliers]
