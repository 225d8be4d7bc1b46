"""VQGAN's autoencoder (Esser, Rombach, Ommer, "Taming transformers for high-resolution image synthesis", CVPR 2021).

Residual blocks at every level, attention at chosen resolutions, and on the smallest map two more blocks with attention
in between (table 7). The 1×1 convolutions around the codebook are left to the quantiser. Fully convolutional: any image
whose sides can be halved often enough.
"""

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders.base import MapDecoder, MapEncoder
from lightning_gen.networks.autoencoders.self_attention import group_norm
from lightning_gen.networks.autoencoders.stages import (
    ClassConv2d,
    check_sides,
    check_stages,
    level_sizes,
    middle,
    way_down,
    way_up,
)


class VQGANEncoder(MapEncoder):
    """Images to maps that are 2^(levels − 1) times smaller.

    Args:
        num_features: channels F of the maps.
        image_size: side, or (height, width), in pixels, which `attention` refers to.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels at full resolution, before they are multiplied.
        multipliers: channels of each level relative to `width`; as many levels as there are numbers.
        depth: residual blocks a level, ≥ 1.
        attention: smaller sides, in pixels, of the maps that attend to themselves after every block.
        heads: of the attention; 1 as published.
        dropout: in the blocks, in [0, 1).
        num_classes: classes, or attributes, set the bias of the first convolution.

    Raises:
        UserError: on an image size or attention that is not possible, or an argument out of its range.
    """

    def __init__(
        self,
        num_features: int = 256,
        image_size: int | tuple[int, int] = 256,
        channels: int = 3,
        width: int = 128,
        multipliers: list[int] | tuple[int, ...] = (1, 1, 2, 2, 4),
        depth: int = 2,
        attention: list[int] | tuple[int, ...] = (16,),
        heads: int = 1,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        check_stages(self, width, depth, dropout)
        widths = _widths(self, width, multipliers)
        super().__init__(num_features, num_classes)
        sizes = level_sizes(self, image_size, len(widths))
        self.factor = 2 ** (len(widths) - 1)
        self.entry = ClassConv2d(channels, widths[0], 3, num_classes, padding=1)
        self.layers = nn.Sequential(
            *way_down(sizes, widths, depth, attention, heads, dropout),
            *middle(widths[-1], heads, dropout),
            group_norm(widths[-1]),
            nn.SiLU(),
            nn.Conv2d(widths[-1], num_features, 3, padding=1),
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images, and (B,) classes or (B, K) attributes, to (B, F, h, w) maps.

        Raises:
            RuntimeError: if the sides cannot be halved often enough.
        """
        check_sides(self, x, self.factor)
        return self.layers(self.entry(x, y))


class VQGANDecoder(MapDecoder):
    """Maps of codes to the parameters of images that are 2^(levels − 1) times larger.

    Args:
        latent_dim: channels d of the maps; the quantiser's.
        num_parameters: numbers P for each entry of an image; the likelihood's.
        image_size: side, or (height, width), in pixels, which `attention` refers to.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels at full resolution, before they are multiplied.
        multipliers: channels of each level relative to `width`, from the image down, as the encoder's.
        depth: residual blocks a level, to which one is added as published, ≥ 1.
        attention: smaller sides, in pixels, of the maps that attend to themselves after every block.
        heads: of the attention; 1 as published.
        dropout: in the blocks, in [0, 1).
        num_classes: classes, or attributes, set the bias of the first convolution.

    Raises:
        UserError: on an image size or attention that is not possible, or an argument out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_parameters: int,
        image_size: int | tuple[int, int] = 256,
        channels: int = 3,
        width: int = 128,
        multipliers: list[int] | tuple[int, ...] = (1, 1, 2, 2, 4),
        depth: int = 2,
        attention: list[int] | tuple[int, ...] = (16,),
        heads: int = 1,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        check_stages(self, width, depth, dropout)
        widths = _widths(self, width, multipliers)
        super().__init__(latent_dim, num_parameters, num_classes)
        sizes = level_sizes(self, image_size, len(widths))
        self.out_shape = (num_parameters, channels)
        self.entry = ClassConv2d(latent_dim, widths[-1], 3, num_classes, padding=1)
        self.layers = nn.Sequential(
            *middle(widths[-1], heads, dropout),
            *way_up(sizes, widths, depth + 1, attention, heads, dropout),
            group_norm(widths[0]),
            nn.SiLU(),
        )
        self.last = nn.Conv2d(widths[0], num_parameters * channels, 3, padding=1)

    @property
    def last_layer(self) -> Tensor:
        """The weight of the last convolution."""
        return self.last.weight

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d, h, w) maps, and (B,) classes or (B, K) attributes, to (B, P, C, H, W) parameters."""
        return self.last(self.layers(self.entry(z, y))).unflatten(1, self.out_shape)


def _widths(part: object, width: int, multipliers: list[int] | tuple[int, ...]) -> list[int]:
    if not multipliers or min(multipliers) < 1:
        raise UserError(
            f"{type(part).__name__}.multipliers is {list(multipliers)}: it must be one or more numbers, each at least 1"
        )
    return [width * multiplier for multiplier in multipliers]
