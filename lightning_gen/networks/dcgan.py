"""DCGAN's two networks (Radford, Metz, Chintala, "Unsupervised Representation Learning with DCGANs", ICLR 2016).

Strided (transposed) 4×4 convolutions, batch norm, ReLU in the generator and leaky ReLU in the discriminator (§3), all
convolutions and linear maps from N(0, 0.02²) (§4). Any image whose sides are 4 to 7 pixels times the same power of two.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator, Generator

_BASES = range(4, 8)


def size_plan(image_size: int | tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Split an image size into a base and the number of doublings.

    Args:
        image_size: side, or (height, width), in pixels.

    Returns:
        `(base height, base width), doublings`, with the smaller base from 4 to 7 and at least one doubling.

    Raises:
        UserError: if there is no such split; the sentence names the nearest size that has one.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    for doublings in range(1, 12):
        factor = 2**doublings
        if height % factor == width % factor == 0 and min(height, width) // factor in _BASES:
            return (height // factor, width // factor), doublings
    sizes = sorted(base * 2**k for base in _BASES for k in range(1, 10))
    near = min(sizes, key=lambda size: abs(size - min(height, width)))
    raise UserError(
        f"image_size {image_size} does not suit a DCGAN: both sides must be a base times the same power of two, the"
        f" smaller base being 4 to 7; the nearest such side is {near}"
    )


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
        self.embed = nn.Embedding(num_classes, class_dim) if num_classes else None
        self.project = nn.Linear(latent_dim + (class_dim if num_classes else 0), widths[0] * height * breadth)
        layers: list[nn.Module] = [_norm(widths[0], batch_norm), nn.ReLU(inplace=True)]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=not batch_norm)]
            layers += [_norm(after, batch_norm), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes to (B, C, H, W) images in [-1, 1]."""
        if self.embed is not None:
            z = torch.cat((z, self.embed(y)), dim=1)
        return self.layers(self.project(z).unflatten(1, self.base))


class DCGANDiscriminator(Discriminator):
    """Halves the image down to the base and scores it.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels of the first map; each map after it has twice as many.
        num_classes: classes enter by projection, ⟨embed(y), Σφ(x)⟩ (Miyato, Koyama, ICLR 2018, eq. 3).
        batch_norm: on as in the paper; off under gradient penalties, which assume that samples do not interact.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 64,
        num_classes: int | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(num_classes)
        base, doublings = size_plan(image_size)
        widths = [channels, *(width * 2**k for k in range(doublings))]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            norm = batch_norm and k > 0  # never on the input layer (§3)
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=not norm), _norm(after, norm), nn.LeakyReLU(0.2, True)]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Conv2d(widths[-1], 1, base)
        self.embed = nn.Embedding(num_classes, widths[-1]) if num_classes else None
        self.apply(_initialise)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.02)  # a linear map of classes

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images in [-1, 1] and (B,) classes to (B,) scores."""
        features = self.layers(x)
        score = self.score(features).flatten(0)
        if self.embed is not None:
            score = score + (self.embed(y) * features.sum(dim=(2, 3))).sum(dim=1)
        return score


def _norm(channels: int, batch_norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
