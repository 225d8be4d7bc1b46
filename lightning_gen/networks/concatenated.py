"""Classes as further input channels of a discriminator (Mirza, Osindero, arXiv:1411.1784, §3.2)."""

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator, Judgement
from lightning_gen.networks.conditioning import Embed


class ConcatenatedClasses(Discriminator):
    """Makes an unconditional discriminator conditional: it sees the class as constant maps beside the sample.

    Args:
        discriminator: an unconditional network, built for `maps` channels (or entries) more than the samples have.
        num_classes: number of classes, or of attributes, K.
        maps: how many maps (or entries of a vector) a class is embedded in, ≥ 1.

    Raises:
        UserError: if a number is below 1, or the inner network is conditional or packs samples.
    """

    def __init__(self, discriminator: Discriminator, num_classes: int, maps: int = 1) -> None:
        super().__init__(num_classes)
        for key, value in (("num_classes", num_classes), ("maps", maps)):
            if value < 1:
                raise UserError(f"ConcatenatedClasses.{key} is {value}: it must be at least 1")
        if discriminator.num_classes is not None:
            raise UserError(
                f"ConcatenatedClasses.discriminator has num_classes {discriminator.num_classes}: classes enter beside"
                " the sample already, so it must be null"
            )
        if discriminator.packing != 1:
            raise UserError(
                f"ConcatenatedClasses.discriminator has packing {discriminator.packing}: samples that are judged"
                " together may be of different classes, so it must be 1"
            )
        self.discriminator = discriminator
        self.embed = Embed(num_classes, maps)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor | Judgement:
        """Judge (B, C, …) samples of (B,) classes or (B, K) attributes."""
        assert y is not None
        maps = self.embed(y).to(x.dtype)
        maps = maps.view(*maps.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return self.discriminator(torch.cat((x, maps), dim=1))

    def stages(self) -> list[nn.Module]:
        """Those of the inner network; the embedding stays free when layers are frozen."""
        return self.discriminator.stages()
