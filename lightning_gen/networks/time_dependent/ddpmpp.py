"""DDPM++ (Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021).

As Karras et al. have it in "Elucidating the design space of diffusion-based generative models" (EDM), NeurIPS 2022,
arXiv:2206.00364, appendix F.3 and table 7. Its input for inputs of augmentation is left out.
"""

import math
from collections.abc import Callable
from functools import partial

from torch import nn

from lightning_gen.networks.time_dependent.embeddings import JointEmbedding, Sinusoidal, TimeFeatures
from lightning_gen.networks.time_dependent.unet_base import SkipConnected, UNetParts, check_unet
from lightning_gen.networks.time_dependent.unet_layers import ShiftedNorm, TimeNorm, TimeResidualBlock


class DDPMPlusPlus(SkipConnected):
    """A deeper U-Net whose residual blocks also resample, and whose branches are added with 1/√2.

    Otherwise it differs from `UNet` in that only the last block of a level attends on the way up, the condition joins
    the features of time, and branches start at 10⁻⁵ of what they would be, so that the output is nearly 0.

    Defaults are those for CIFAR-10 (55.7 million parameters); for FFHQ and AFHQ at 64 pixels (61.8 million):
    `multipliers` [1, 2, 2, 2], dropout .05 and .25.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: of the image: 1 for grey, 3 for colour, or any other number.
        width: channels of the first map, before they are multiplied, even; the vector of time has four times as many.
        multipliers: channels of each level relative to `width`; as many levels as there are numbers.
        num_blocks: residual blocks a level on the way down, ≥ 1; one more on the way up.
        attention: smaller sides, in pixels, of the maps that attend to themselves; the smallest map does in any case.
        heads: of the attention, a divisor of the channels.
        dropout: in the blocks, in [0, 1).
        num_classes: number of classes, or of attributes, whose vectors are added to the features of time.
        norm: `ShiftedNorm` as published, or `ModulatedNorm`, how blocks see the time.
        time_features: makes the features of time from their number, `width`; those of log σ / 4, as published, unless
            set.

    Raises:
        UserError: on an image size or attention that is not possible, or an argument out of its range.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 128,
        multipliers: list[int] | tuple[int, ...] = (2, 2, 2),
        num_blocks: int = 4,
        attention: list[int] | tuple[int, ...] = (16,),
        heads: int = 1,
        dropout: float = 0.13,
        num_classes: int | None = None,
        norm: Callable[[int, int], TimeNorm] = ShiftedNorm,
        time_features: Callable[[int], TimeFeatures] | None = None,
    ) -> None:
        check_unet(self, width, multipliers, num_blocks, heads, dropout)
        block = partial(
            TimeResidualBlock, embedding_dim=4 * width, norm=norm, dropout=dropout, skip_scale=math.sqrt(0.5)
        )
        features = time_features or partial(Sinusoidal, scale=1.0)
        parts = UNetParts(
            embedding=JointEmbedding(features, width, 4 * width, num_classes),
            block=lambda before, after, attends: block(before, after, heads=heads if attends else 0),
            down=lambda channels: block(channels, channels, resample=nn.AvgPool2d(2)),
            up=lambda channels: block(channels, channels, resample=nn.Upsample(scale_factor=2)),
            attending_up=[False] * num_blocks + [True],
            branch_gain=1e-5,
            attention_gain=math.sqrt(0.2),
        )
        super().__init__(image_size, channels, width, multipliers, num_blocks, attention, num_classes, parts)
