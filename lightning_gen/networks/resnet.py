"""The residual networks of SNGAN (Miyato et al., "Spectral Normalization for GANs", ICLR 2018, tables 3 to 5).

With other settings they are those of WGAN-GP (no spectral norm, mean pooling), of the projection cGAN (with classes),
and of SAGAN (spectral norm in both networks, attention). Widths by image size: 256 and 128 channels throughout up to 32
pixels (table 3); above, as table 4 at 48, table 5 at 128, and in between and beyond as BigGAN's.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from lightning_gen.networks.attention import attended, attention_at
from lightning_gen.networks.base import Generator
from lightning_gen.networks.conditioning import indicators
from lightning_gen.networks.heads import Head, Projection
from lightning_gen.networks.initialise import Initialisation, Xavier
from lightning_gen.networks.normalisation import ConditionalBatchNorm2d
from lightning_gen.networks.residual import DownBlock, InputBlock, PooledDiscriminator, UpBlock
from lightning_gen.networks.sizes import descend, discriminator_plan, generator_plan, widths
from lightning_gen.networks.spectral import normalise_spectrally

_PUBLISHED = 64  # channels at full resolution


class ResNetGenerator(Generator):
    """Projects the latent to a small map and doubles it up to the image by residual blocks.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        latent_dim: length of the latent vector.
        width: channels of the widest map; as published unless set: 256 up to 32 pixels, 512 below 64, else 1024.
        num_classes: classes set the gains and biases of the blocks' batch norms.
        upsample: interpolation, "nearest" as published or "bilinear".
        attention: smaller sides, in pixels, of the maps that attend to themselves (SAGAN: 16 of 32, 64 of 128).
        spectral_norm: on as in SAGAN, off as in SNGAN.
        init: how weights start.

    Raises:
        UserError: on an image size, width or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int | None = None,
        num_classes: int | None = None,
        upsample: Literal["nearest", "bilinear"] = "nearest",
        attention: list[int] | tuple[int, ...] = (),
        spectral_norm: bool = False,
        init: Callable[[], Initialisation] = Xavier,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        (height, breadth), multipliers = generator_plan(image_size)
        maps = widths(multipliers, _PUBLISHED * max(multipliers) if width is None else width)
        sizes = [(height << k, breadth << k) for k in range(1, len(maps))]
        norm = partial(ConditionalBatchNorm2d, condition_dim=num_classes) if num_classes else nn.BatchNorm2d
        self.base = (maps[0], height, breadth)
        self.project = nn.Linear(latent_dim, maps[0] * height * breadth)
        self.blocks = nn.ModuleList(UpBlock(*pair, norm, upsample) for pair in pairwise(maps))
        self.attentions = nn.ModuleList(attention_at(attention, sizes, maps[1:]))
        self.image = nn.Sequential(
            nn.BatchNorm2d(maps[-1]), nn.ReLU(inplace=True), nn.Conv2d(maps[-1], channels, 3, padding=1), nn.Tanh()
        )
        init()(self)
        if spectral_norm:
            normalise_spectrally(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, C, H, W) images in [-1, 1]."""
        condition: list[Tensor] = []
        if self.num_classes:
            assert y is not None
            condition = [indicators(y, self.num_classes, z.dtype)]
        h = self.project(z).unflatten(1, self.base)
        for block, attend in zip(self.blocks, self.attentions, strict=True):
            h = attend(block(h, *condition))
        return self.image(h)


class ResNetDiscriminator(PooledDiscriminator):
    """Residual blocks down to a small map, pooled and judged.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels of the widest map; as published unless set: 128 up to 32 pixels, 512 or 1024 above.
        num_classes: what becomes of the classes is the head's affair.
        head: what is read off the pooled map.
        spectral_norm: on as in SNGAN, the head included; off under WGAN-GP's penalty.
        attention: smaller sides, in pixels, of the maps that attend to themselves (SAGAN: 16 of 32, 64 of 128).
        pooling: over positions; "sum" as published, "mean" for WGAN-GP.
        init: how weights start.

    Raises:
        UserError: on an image size, width or attention that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int | None = None,
        num_classes: int | None = None,
        head: Callable[[int, int | None], Head] = Projection,
        spectral_norm: bool = True,
        attention: list[int] | tuple[int, ...] = (),
        pooling: Literal["sum", "mean"] = "sum",
        init: Callable[[], Initialisation] = Xavier,
    ) -> None:
        halvings, multipliers = discriminator_plan(image_size)
        maps = widths(multipliers, _PUBLISHED * max(multipliers) if width is None else width)
        blocks: list[nn.Module] = [InputBlock(channels, maps[0])]
        for k, (before, after) in enumerate(pairwise(maps), start=1):
            blocks += [DownBlock(before, after, before, nn.AvgPool2d(2) if k < halvings else nn.Identity())]
        attentions = attention_at(attention, descend(image_size, halvings, len(maps)), maps)
        super().__init__(attended(blocks, attentions), head(maps[-1], num_classes), pooling, num_classes)
        init()(self)
        if spectral_norm:
            normalise_spectrally(self)
