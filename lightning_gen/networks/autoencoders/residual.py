"""Residual encoders and decoders of images: group norm, SiLU, and attention where it is asked for.

Samples of a batch do not interact. The blocks are those of `stages`; any image whose sides are 4 to 7 pixels times the
same power of two.
"""

from torch import Tensor, nn

from lightning_gen.networks.autoencoders.base import Decoder, Encoder
from lightning_gen.networks.autoencoders.conv import LatentMap
from lightning_gen.networks.autoencoders.self_attention import group_norm
from lightning_gen.networks.autoencoders.stages import ClassConv2d, check_stages, level_sizes, way_down, way_up
from lightning_gen.networks.sizes import size_plan

_MOST = 4  # times the width at full resolution


class ResidualEncoder(Encoder):
    """Residual blocks from the image down to 4 to 7 pixels; the flattened map is the features.

    Args:
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels at full resolution; twice as many at half of it, 4 times below.
        depth: residual blocks at each resolution, ≥ 1.
        attention: smaller sides, in pixels, of the maps that attend to themselves after every block.
        heads: of the attention.
        dropout: in the blocks, in [0, 1).
        num_classes: classes, or attributes, set the bias of the first convolution.

    Raises:
        UserError: on an image size or attention that is not possible, or an argument out of its range.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 64,
        depth: int = 1,
        attention: list[int] | tuple[int, ...] = (),
        heads: int = 1,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        check_stages(self, width, depth, dropout)
        (height, breadth), halvings = size_plan(image_size)
        widths = _widths(width, halvings)
        super().__init__(widths[-1] * height * breadth, num_classes)
        sizes = level_sizes(self, image_size, halvings + 1)
        self.entry = ClassConv2d(channels, widths[0], 3, num_classes, padding=1)
        self.layers = nn.Sequential(
            *way_down(sizes, widths, depth, attention, heads, dropout), group_norm(widths[-1]), nn.SiLU()
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images, and (B,) classes or (B, K) attributes, to (B, F) features."""
        return self.layers(self.entry(x, y)).flatten(1)


class ResidualDecoder(Decoder):
    """Residual blocks from a map of 4 to 7 pixels, linear in the latent, up to the image.

    Args:
        latent_dim: length d of a latent; the model's.
        num_parameters: numbers P for each entry of an image; the likelihood's.
        image_size: side, or (height, width), in pixels.
        channels: 1 for grey, 3 for colour, or any other number.
        width: channels at full resolution; twice as many at half of it, 4 times below.
        depth: residual blocks at each resolution, ≥ 1.
        attention: smaller sides, in pixels, of the maps that attend to themselves after every block.
        heads: of the attention.
        dropout: in the blocks, in [0, 1).
        num_classes: classes, or attributes, are embedded and concatenated to the latent.
        class_dim: length of that embedding.

    Raises:
        UserError: on an image size or attention that is not possible, or an argument out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_parameters: int,
        image_size: int | tuple[int, int] = 32,
        channels: int = 3,
        width: int = 64,
        depth: int = 1,
        attention: list[int] | tuple[int, ...] = (),
        heads: int = 1,
        dropout: float = 0.0,
        num_classes: int | None = None,
        class_dim: int = 32,
    ) -> None:
        check_stages(self, width, depth, dropout)
        super().__init__(latent_dim, num_parameters, num_classes)
        base, doublings = size_plan(image_size)
        widths = _widths(width, doublings)
        sizes = level_sizes(self, image_size, doublings + 1)
        self.project = LatentMap(latent_dim, (widths[-1], *base), num_classes, class_dim)
        self.layers = nn.Sequential(
            *way_up(sizes, widths, depth, attention, heads, dropout),
            group_norm(widths[0]),
            nn.SiLU(),
            nn.Conv2d(widths[0], num_parameters * channels, 3, padding=1),
        )
        self.out_shape = (num_parameters, channels)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d) latents, and (B,) classes or (B, K) attributes, to (B, P, C, H, W) parameters."""
        return self.layers(self.project(z, y)).unflatten(1, self.out_shape)


def _widths(width: int, halvings: int) -> list[int]:
    return [width * min(2**k, _MOST) for k in range(halvings + 1)]
