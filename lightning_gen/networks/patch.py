"""Discriminators that score every patch of an image by itself.

They are no `Discriminator`, whose scores are one a sample: a loss is the mean over patches *of the loss*, which a
score that is averaged first would not give (the hinge of a mean is not the mean of hinges).
"""

from abc import ABC, abstractmethod
from itertools import pairwise

from torch import Tensor, nn

from lightning_gen.errors import UserError


class MapDiscriminator(nn.Module, ABC):
    """Scores patches of images: the larger, the more real.

    Attributes:
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    num_classes: int | None = None

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images and (B,) classes, or (B, K) attributes, to (B, h, w) scores."""


class PatchDiscriminator(MapDiscriminator):
    """PatchGAN (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, §6.1.2).

    4×4 convolutions with leaky ReLU, `num_layers` of them with stride 2 and two with stride 1, the last of which gives
    the scores; batch norm on all but the first and the last. Weights start from N(0, 0.02²). A score sees a patch of
    16, 34, 70 or 142 pixels a side with 1, 2, 3 or 4 strided layers. Classes are not looked at.

    Args:
        channels: of the images.
        width: channels of the first map; each map after it has twice as many, at most eight times.
        num_layers: strided convolutions, ≥ 1; images must have 2^num_layers · 3 pixels a side at least.
        batch_norm: off only where batch statistics are unwanted, as for training that must not depend on how a batch
            is shared out.

    Raises:
        UserError: if there is no strided layer.
    """

    def __init__(self, channels: int = 3, width: int = 64, num_layers: int = 3, batch_norm: bool = True) -> None:
        super().__init__()
        if num_layers < 1:
            raise UserError(f"PatchDiscriminator.num_layers is {num_layers}: it must be at least 1")
        self.channels = channels
        self.least = 3 * 2**num_layers
        widths = [channels, *(width * min(2**k, 8) for k in range(num_layers + 1))]
        layers: list[nn.Module] = []
        for k, (before, after) in enumerate(pairwise(widths)):
            norm = batch_norm and k > 0
            layers.append(nn.Conv2d(before, after, 4, 2 if k < num_layers else 1, 1, bias=not norm))
            layers += [nn.BatchNorm2d(after)] if norm else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.apply(_initialise)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images in [-1, 1] to (B, h, w) scores, h = H / 2^num_layers − 2.

        Raises:
            UserError: if images have other channels or too few pixels.
        """
        if x.shape[1] != self.channels:
            raise UserError(
                f"PatchDiscriminator.channels is {self.channels} but the images have {x.shape[1]}: set it to that"
            )
        if min(x.shape[2:]) < self.least:
            raise UserError(
                f"PatchDiscriminator.num_layers is too large for images of {x.shape[2]}×{x.shape[3]} pixels: as it is,"
                f" they need {self.least} a side at least"
            )
        return self.layers(x).squeeze(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
