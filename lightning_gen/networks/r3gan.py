"""R3GAN's two networks (Huang, Gokaslan, Kuleshov, Tompkin, "The GAN is dead; long live the GAN!", NeurIPS 2024, §4).

Configuration E: residual blocks of 1×1, grouped 3×3 and 1×1 convolutions that widen in the middle, leaky ReLUs between
them, no normalisation whatever; bilinear resampling between stages; a learnt basis of maps at the smallest size. The
discriminator mirrors the generator: the same numbers, ordered from the smallest maps to the image, describe both.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_gen.networks.base import Discriminator, Generator, Judgement
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.fir import Downsample, Upsample
from lightning_gen.networks.heads import Head
from lightning_gen.networks.r3gan_layers import base_size, check_groups, per_stage, scaled, stage, transition


class R3GANGenerator(Generator):
    """A basis of maps weighted by the latent, then a stage of residual blocks at each doubling.

    Defaults are those of CIFAR-10 (appendix D). Small images do with far less: `widths: [64, 64]` and `cardinality: 8`.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        latent_dim: length of the latent vector.
        widths: channels of each stage, from the smallest maps (of 2 to 7 pixels) to the image's size.
        blocks: residual blocks of each stage; one number for all, or one for each.
        cardinality: groups of the 3×3 convolutions, likewise; must divide `expansion` times the stage's width.
        expansion: how many times wider a block is in its middle.
        num_classes: classes, or attributes, are embedded and concatenated to the latent.
        class_dim: length of the embedding.

    Raises:
        UserError: if these do not fit the image size or each other.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        latent_dim: int = 64,
        widths: tuple[int, ...] = (768, 768, 768, 768),
        blocks: int | tuple[int, ...] = 2,
        cardinality: int | tuple[int, ...] = 96,
        expansion: int = 2,
        num_classes: int | None = None,
        class_dim: int = 64,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        name, count = type(self).__name__, len(widths)
        base = base_size(name, image_size, count)
        counts, groups = per_stage(name, "blocks", blocks, count), per_stage(name, "cardinality", cardinality, count)
        check_groups(name, widths, groups, expansion)
        self.embed = Embed(num_classes, class_dim) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, self.embed.num_embeddings**-0.5)  # a linear map of classes
        self.weigh = scaled(nn.Linear(latent_dim + (class_dim if num_classes else 0), widths[0], bias=False))
        self.basis = nn.Parameter(torch.randn(widths[0], *base))
        layers: list[nn.Module] = [stage(widths[0], counts[0], groups[0], expansion, sum(counts))]
        for k, (before, after) in enumerate(pairwise(widths), start=1):
            layers += [transition(before, after), Upsample()]
            layers += [stage(after, counts[k], groups[k], expansion, sum(counts))]
        self.layers = nn.Sequential(*layers)
        self.image = scaled(nn.Conv2d(widths[-1], channels, 1, bias=False))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, C, H, W) images, not bounded."""
        if self.embed is not None:
            assert y is not None
            z = torch.cat((z, self.embed(y)), dim=1)
        return self.image(self.layers(self.basis * self.weigh(z)[:, :, None, None]))


class EmbeddedScore(Head):
    """R3GAN's score: linear; with classes, the inner product of a linear map of the features with an embedding.

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, K; None for an unconditional discriminator.
    """

    def __init__(self, num_features: int, num_classes: int | None = None) -> None:
        super().__init__(num_features, num_classes)
        self.score = scaled(nn.Linear(num_features, num_features if num_classes else 1, bias=False))
        self.embed = Embed(num_classes, num_features) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, self.embed.weight.numel() ** -0.5)

    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features: scores and the features."""
        found = self.score(h)
        if self.embed is not None:
            assert y is not None
            found = found * self.embed(y)
        return Judgement(found.sum(dim=1), h)


class R3GANDiscriminator(Discriminator):
    """A stage of residual blocks before each halving, then a weighted sum of each of the smallest maps.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        widths: channels of each stage in the generator's order, from the smallest maps (of 2 to 7 pixels) to the image.
        blocks: residual blocks of each stage; one number for all, or one for each.
        cardinality: groups of the 3×3 convolutions, likewise; must divide `expansion` times the stage's width.
        expansion: how many times wider a block is in its middle.
        num_classes: number of classes, or of attributes, that the head is told.
        head: makes the last layer from the numbers of features and of classes.

    Raises:
        UserError: if these do not fit the image size or each other.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        widths: tuple[int, ...] = (768, 768, 768, 768),
        blocks: int | tuple[int, ...] = 2,
        cardinality: int | tuple[int, ...] = 96,
        expansion: int = 2,
        num_classes: int | None = None,
        head: Callable[[int, int | None], Head] = EmbeddedScore,
    ) -> None:
        super().__init__(num_classes)
        name, count = type(self).__name__, len(widths)
        base = base_size(name, image_size, count)
        counts, groups = per_stage(name, "blocks", blocks, count), per_stage(name, "cardinality", cardinality, count)
        check_groups(name, widths, groups, expansion)
        self.image = scaled(nn.Conv2d(channels, widths[-1], 1, bias=False))
        layers: list[nn.Module] = []
        for k in reversed(range(count)):
            layers += [stage(widths[k], counts[k], groups[k], expansion, sum(counts))]
            if k > 0:
                layers += [Downsample(), transition(widths[k], widths[k - 1])]
        self.layers = nn.Sequential(*layers)
        self.basis = scaled(nn.Conv2d(widths[0], widths[0], base, groups=widths[0], bias=False))
        self.head = head(widths[0], num_classes)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, C, H, W) images in [-1, 1] of (B,) classes or (B, K) attributes."""
        return self.head(self.basis(self.layers(self.image(x))).flatten(1), y)

    def stages(self) -> list[nn.Module]:
        """From the image: its first layer, the stages and the layers between their widths, the basis, the head."""
        layers = [self.image, *self.layers, self.basis, self.head]
        return [layer for layer in layers if any(True for _ in layer.parameters())]
