"""Convolutional encoders and decoders after DCGAN's networks (Radford, Metz, Chintala, ICLR 2016).

Strided (transposed) 4×4 convolutions, batch norm, leaky ReLU on the way down and ReLU on the way up. Any image whose
sides are 4 to 7 pixels times the same power of two.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.autoencoders.base import Decoder, Encoder
from lightning_gen.networks.autoencoders.stages import ClassConv2d
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.sizes import size_plan

_MOST = 8  # times the width of the largest map


class ConvEncoder(Encoder):
    """Halves the image down to 4 to 7 pixels; the flattened map is the features.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels of the first map; each after it has twice as many, up to 8 times.
        batch_norm: on after every layer but the first; off only where batch statistics are unwanted.
        num_classes: classes, or attributes, set the bias of the first convolution.

    Raises:
        UserError: on an image size or width that is not possible.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 64,
        batch_norm: bool = True,
        num_classes: int | None = None,
    ) -> None:
        check_at_least(self, 1, width=width, channels=channels)
        (height, breadth), halvings = size_plan(image_size)
        widths = _widths(width, halvings)
        super().__init__(widths[-1] * height * breadth, num_classes)
        self.entry = ClassConv2d(channels, widths[0], 4, num_classes, stride=2, padding=1)
        layers: list[nn.Module] = [nn.LeakyReLU(0.2)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=not batch_norm)]
            layers += [*_norm(after, batch_norm), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images, and (B,) classes or (B, K) attributes, to (B, F) features."""
        return self.layers(self.entry(x, y)).flatten(1)


class ConvDecoder(Decoder):
    """Projects the latent to a map of 4 to 7 pixels and doubles it up to the image.

    Args:
        latent_dim: length d of a latent; the model's.
        num_parameters: numbers P for each entry of an image; the likelihood's.
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels of the last hidden map; each before it has twice as many, up to 8 times.
        batch_norm: on before every activation; off only where batch statistics are unwanted.
        num_classes: classes, or attributes, are embedded and concatenated to the latent.
        class_dim: length of that embedding.

    Raises:
        UserError: on an image size or width that is not possible.
    """

    def __init__(
        self,
        latent_dim: int,
        num_parameters: int,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 64,
        batch_norm: bool = True,
        num_classes: int | None = None,
        class_dim: int = 32,
    ) -> None:
        check_at_least(self, 1, width=width, channels=channels)
        super().__init__(latent_dim, num_parameters, num_classes)
        base, doublings = size_plan(image_size)
        widths = _widths(width, doublings)[::-1]
        self.project = LatentMap(latent_dim, (widths[0], *base), num_classes, class_dim)
        layers: list[nn.Module] = [*_norm(widths[0], batch_norm), nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=not batch_norm)]
            layers += [*_norm(after, batch_norm), nn.ReLU()]
        layers += [nn.ConvTranspose2d(widths[-1], num_parameters * channels, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)
        self.out_shape = (num_parameters, channels)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d) latents, and (B,) classes or (B, K) attributes, to (B, P, C, H, W) parameters."""
        return self.layers(self.project(z, y)).unflatten(1, self.out_shape)


class LatentMap(nn.Module):
    """A linear map from the latent, and an embedding of the class beside it, to a small map.

    Args:
        latent_dim: length d of a latent.
        shape: (channels, height, width) of the map.
        num_classes: number of classes, or of attributes; None for none.
        class_dim: length of the embedding.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], num_classes: int | None, class_dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.embed = Embed(num_classes, class_dim) if num_classes else None
        channels, height, width = shape
        self.linear = nn.Linear(latent_dim + (class_dim if num_classes else 0), channels * height * width)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d) latents, and (B,) classes or (B, K) attributes, to (B, *shape)."""
        if self.embed is not None:
            assert y is not None
            z = torch.cat((z, self.embed(y).to(z.dtype)), dim=1)
        return self.linear(z).unflatten(1, self.shape)


def _widths(width: int, halvings: int) -> list[int]:
    return [width * min(2**k, _MOST) for k in range(halvings)]


def _norm(channels: int, batch_norm: bool) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels)] if batch_norm else []
