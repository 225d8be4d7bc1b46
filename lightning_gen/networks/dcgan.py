"""DCGAN's two networks (Radford, Metz, Chintala, "Unsupervised Representation Learning with DCGANs", ICLR 2016).

Strided (transposed) 4×4 convolutions, batch norm, ReLU in the generator and leaky ReLU in the discriminator (§3), all
convolutions and linear maps from N(0, 0.02²) (§4). Any image whose sides are 4 to 7 pixels times the same power of two.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_gen.networks.base import Discriminator, Generator, Judgement
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.heads import Head, Projection
from lightning_gen.networks.sizes import size_plan


class DCGANGenerator(Generator):
    """Projects the latent to a small map and doubles it up to the image.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        latent_dim: length of the latent vector.
        width: channels of the last hidden map; each map before it has twice as many.
        num_classes: classes are embedded and concatenated to the latent (Mirza, Osindero, arXiv:1411.1784).
        class_dim: length of the class embedding.
        batch_norm: off only where batch statistics are unwanted.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        num_classes: int | None = None,
        class_dim: int = 32,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        (height, breadth), doublings = size_plan(image_size)
        widths = [width * 2**k for k in reversed(range(doublings))]
        self.base = (widths[0], height, breadth)
        self.embed = Embed(num_classes, class_dim) if num_classes else None
        self.project = nn.Linear(latent_dim + (class_dim if num_classes else 0), widths[0] * height * breadth)
        layers: list[nn.Module] = [_norm(widths[0], batch_norm), nn.ReLU(inplace=True)]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=not batch_norm)]
            layers += [_norm(after, batch_norm), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, C, H, W) images in [-1, 1]."""
        if self.embed is not None:
            z = torch.cat((z, self.embed(y)), dim=1)
        return self.layers(self.project(z).unflatten(1, self.base))


class DCGANDiscriminator(Discriminator):
    """Halves the image down to the base, flattens it, and judges.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels of the first map; each map after it has twice as many.
        num_classes: what becomes of the classes is the head's affair.
        batch_norm: on as in the paper; off under gradient penalties, which assume that samples do not interact.
        head: what is read off the flattened map.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 64,
        num_classes: int | None = None,
        batch_norm: bool = True,
        head: Callable[[int, int | None], Head] = Projection,
    ) -> None:
        super().__init__(num_classes)
        base, doublings = size_plan(image_size)
        widths = [channels, *(width * 2**k for k in range(doublings))]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            norm = batch_norm and k > 0  # never on the input layer (§3)
            conv = nn.Conv2d(before, after, 4, 2, 1, bias=not norm)
            layers += [nn.Sequential(conv, _norm(after, norm), nn.LeakyReLU(0.2, True))]
        self.layers = nn.Sequential(*layers)
        self.head = head(widths[-1] * base[0] * base[1], num_classes)
        self.apply(_initialise)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, C, H, W) images in [-1, 1] of (B,) classes, or (B, K) attributes."""
        return self.head(self.layers(x).flatten(1), y)

    def stages(self) -> list[nn.Module]:
        """The strided layers, each with its norm, then the head."""
        return [*self.layers, self.head]


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Head):
        for table in module.modules():
            if isinstance(table, Embed):  # in a head, a linear map like any other
                nn.init.normal_(table.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
