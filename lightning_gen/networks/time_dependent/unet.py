"""The U-Net of diffusion models (Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020).

arXiv:2006.11239, appendix B: residual blocks with group norm and SiLU, to which sinusoids of the time are added, and
self-attention over the map of 16 pixels.
"""

from collections.abc import Callable

from torch import nn

from lightning_gen.networks.autoencoders.stages import Downsample, Upsample
from lightning_gen.networks.time_dependent.embeddings import Sinusoidal, TimeEmbedding, TimeFeatures
from lightning_gen.networks.time_dependent.unet_base import SkipConnected, UNetParts, check_unet
from lightning_gen.networks.time_dependent.unet_layers import ShiftedNorm, Timeless, TimeNorm, TimeResidualBlock


class UNet(SkipConnected):
    """That of DDPM; its output is 0 at the start, since last convolutions are.

    Defaults are those for CIFAR-10 (35.7 million parameters); for 256 pixels: `multipliers` [1, 1, 2, 2, 4, 4] and
    dropout 0 (114 million). Digits of 8 pixels need no more than `width: 32`, `multipliers: [1, 2]`, `attention: [4]`
    (1 million). With `norm: ModulatedNorm`, several heads and attention at 32, 16 and 8 pixels it is the network of
    Dhariwal and Nichol (NeurIPS 2021), but for resampling by convolutions.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: of the image: 1 for grey, 3 for colour, or any other number.
        width: channels of the first map, before they are multiplied, even; the vector of time has four times as many.
        multipliers: channels of each level relative to `width`; as many levels as there are numbers.
        num_blocks: residual blocks a level on the way down, ≥ 1; one more on the way up.
        attention: smaller sides, in pixels, of the maps that attend to themselves after every block; the smallest map
            does in any case.
        heads: of the attention, a divisor of the channels.
        dropout: in the blocks, in [0, 1).
        num_classes: number of classes, or of attributes, whose vectors are added to that of time.
        norm: `ShiftedNorm`, or `ModulatedNorm`, how blocks see the time.
        time_features: makes the features of time from their number, `width`.
        skip_scale: of the sum at the end of residual branches; 1/√2 = 0.7071 keeps its variance (Song et al., ICLR
            2021).

    Raises:
        UserError: on an image size or attention that is not possible, or an argument out of its range.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 128,
        multipliers: list[int] | tuple[int, ...] = (1, 2, 2, 2),
        num_blocks: int = 2,
        attention: list[int] | tuple[int, ...] = (16,),
        heads: int = 1,
        dropout: float = 0.1,
        num_classes: int | None = None,
        norm: Callable[[int, int], TimeNorm] = ShiftedNorm,
        time_features: Callable[[int], TimeFeatures] = Sinusoidal,
        skip_scale: float = 1.0,
    ) -> None:
        check_unet(self, width, multipliers, num_blocks, heads, dropout)
        dim = 4 * width

        def block(before: int, after: int, attends: bool) -> nn.Module:
            return TimeResidualBlock(
                before, after, dim, norm, dropout, heads=heads if attends else 0, skip_scale=skip_scale
            )

        parts = UNetParts(
            embedding=TimeEmbedding(time_features, width, dim, num_classes),
            block=block,
            down=lambda channels: Timeless(Downsample(channels)),
            up=lambda channels: Timeless(Upsample(channels)),
            attending_up=[True] * (num_blocks + 1),
        )
        super().__init__(image_size, channels, width, multipliers, num_blocks, attention, num_classes, parts)
