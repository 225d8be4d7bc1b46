"""BigGAN's networks (Brock, Donahue, Simonyan, "Large Scale GAN Training", ICLR 2019, appendix B, figure 15).

Residual networks as SNGAN's, with the latent in pieces: the first is projected, each further one enters a block's batch
norms beside a class embedding that all of them share. Orthogonal initial weights, spectral norm in both networks.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.attention import attended, attention_at
from lightning_gen.networks.base import Generator
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.heads import Head, Projection
from lightning_gen.networks.initialise import Initialisation, Orthogonal
from lightning_gen.networks.normalisation import ConditionalBatchNorm2d
from lightning_gen.networks.residual import DownBlock, InputBlock, PooledDiscriminator, UpBlock
from lightning_gen.networks.sizes import descend, discriminator_plan, generator_plan
from lightning_gen.networks.spectral import normalise_spectrally


class BigGANGenerator(Generator):
    """Doubles a projected piece of the latent up to the image; the other pieces and the class steer the blocks.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        latent_dim: length of the latent vector: a multiple of one more than the number of doublings (80 for 32 pixels,
            100 for 64, 120 for 128, 140 for 256).
        width: channel unit; maps have 4 times as many up to 32 pixels, from 16 down to 1 times as many above.
        num_classes: classes enter through a shared embedding.
        shared_dim: length of that embedding.
        attention: smaller sides, in pixels, of the maps that attend to themselves (16 of 32, 64 of 128).
        spectral_norm: on as in the paper; the embedding stays out of it.
        init: how weights start.

    Raises:
        UserError: on an image size, latent length or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        latent_dim: int = 80,
        width: int = 96,
        num_classes: int | None = None,
        shared_dim: int = 128,
        attention: list[int] | tuple[int, ...] = (),
        spectral_norm: bool = True,
        init: Callable[[], Initialisation] = Orthogonal,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        (height, breadth), multipliers = generator_plan(image_size)
        maps = [width * multiplier for multiplier in multipliers]
        self.piece = _piece(latent_dim, len(maps))
        sizes = [(height << k, breadth << k) for k in range(1, len(maps))]
        condition_dim = self.piece + (shared_dim if num_classes else 0)
        norm = partial(ConditionalBatchNorm2d, condition_dim=condition_dim)
        self.base = (maps[0], height, breadth)
        self.embed = Embed(num_classes, shared_dim) if num_classes else None
        self.project = nn.Linear(self.piece, maps[0] * height * breadth)
        self.blocks = nn.ModuleList(UpBlock(*pair, norm) for pair in pairwise(maps))
        self.attentions = nn.ModuleList(attention_at(attention, sizes, maps[1:]))
        self.image = nn.Sequential(
            nn.BatchNorm2d(maps[-1]), nn.ReLU(inplace=True), nn.Conv2d(maps[-1], channels, 3, padding=1), nn.Tanh()
        )
        init()(self)
        if spectral_norm:
            normalise_spectrally(self.project, self.blocks, self.attentions, self.image)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, C, H, W) images in [-1, 1]."""
        first, *pieces = z.split(self.piece, dim=1)
        if self.embed is not None:
            assert y is not None
            shared = self.embed(y)
            pieces = [torch.cat((shared, piece), dim=1) for piece in pieces]
        h = self.project(first).unflatten(1, self.base)
        for block, attend, condition in zip(self.blocks, self.attentions, pieces, strict=True):
            h = attend(block(h, condition))
        return self.image(h)


class BigGANDiscriminator(PooledDiscriminator):
    """Residual blocks down to a small map, summed over positions and judged.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channel unit; maps have 2 times as many up to 32 pixels, from 1 up to 16 times as many above.
        num_classes: what becomes of the classes is the head's affair.
        head: what is read off the pooled map.
        attention: smaller sides, in pixels, of the maps that attend to themselves (16 of 32, 64 of 128).
        spectral_norm: on as in the paper, the head included.
        init: how weights start.

    Raises:
        UserError: on an image size or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 96,
        num_classes: int | None = None,
        head: Callable[[int, int | None], Head] = Projection,
        attention: list[int] | tuple[int, ...] = (),
        spectral_norm: bool = True,
        init: Callable[[], Initialisation] = Orthogonal,
    ) -> None:
        halvings, multipliers = discriminator_plan(image_size)
        maps = [width * multiplier for multiplier in multipliers]
        blocks: list[nn.Module] = [InputBlock(channels, maps[0])]
        for k, (before, after) in enumerate(pairwise(maps), start=1):
            blocks += [DownBlock(before, after, after, nn.AvgPool2d(2) if k < halvings else nn.Identity())]
        attentions = attention_at(attention, descend(image_size, halvings, len(maps)), maps)
        super().__init__(attended(blocks, attentions), head(maps[-1], num_classes), "sum", num_classes)
        init()(self)
        if spectral_norm:
            normalise_spectrally(self)


def _piece(latent_dim: int, pieces: int) -> int:
    if latent_dim % pieces or latent_dim < pieces:
        near = max(round(latent_dim / pieces), 1) * pieces
        raise UserError(
            f"latent_dim is {latent_dim}: at this image size BigGAN splits it into {pieces} equal pieces; the nearest"
            f" length is {near}"
        )
    return latent_dim // pieces
