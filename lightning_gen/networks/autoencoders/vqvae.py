"""VQ-VAE's autoencoder (van den Oord, Vinyals, Kavukcuoglu, NIPS 2017, §4.1; Razavi et al., NeurIPS 2019, appendix A).

Strided 4×4 convolutions and residual blocks of a ReLU, a 3×3 convolution, a ReLU and a 1×1 convolution; as in the
authors' programs there is a 3×3 convolution before the blocks, and the largest map has half the channels. Fully
convolutional: any maps whose sides can be halved often enough, so it serves as a level of VQ-VAE-2 too.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.autoencoders.base import MapDecoder, MapEncoder
from lightning_gen.networks.autoencoders.stages import ClassConv2d, check_sides


class VQVAEBlock(nn.Module):
    """x + conv1×1(relu(conv3×3(relu(x)))).

    Args:
        width: channels of input and output.
        hidden: channels in between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class VQVAEEncoder(MapEncoder):
    """Images, or maps, to maps that are 2^num_downsamplings times smaller.

    Args:
        num_features: channels F of the maps, to which a last 1×1 convolution leads.
        channels: of the input: 1 for grey, 3 for colour, or those of another level's map.
        width: channels inside (256 in VQ-VAE, 128 in VQ-VAE-2); the first map of several has half as many.
        num_downsamplings: how often sides are halved, ≥ 1.
        num_blocks: residual blocks, ≥ 0.
        block_width: channels inside a block; None for `width` as in VQ-VAE (VQ-VAE-2: 32).
        num_classes: classes, or attributes, set the bias of the first convolution.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        num_features: int = 64,
        channels: int = 3,
        width: int = 256,
        num_downsamplings: int = 2,
        num_blocks: int = 2,
        block_width: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        inner = width if block_width is None else block_width
        check_at_least(self, 2, width=width)
        check_at_least(self, 1, num_downsamplings=num_downsamplings, block_width=inner)
        check_at_least(self, 0, num_blocks=num_blocks)
        super().__init__(num_features, num_classes)
        self.factor = 2**num_downsamplings
        widths = _widths(width, num_downsamplings)
        self.entry = ClassConv2d(channels, widths[0], 4, num_classes, stride=2, padding=1)
        layers: list[nn.Module] = [nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1)]
        layers += [VQVAEBlock(width, inner) for _ in range(num_blocks)]
        self.layers = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(width, num_features, 1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) images, and (B,) classes or (B, K) attributes, to (B, F, h, w) maps.

        Raises:
            RuntimeError: if the sides cannot be halved often enough.
        """
        check_sides(self, x, self.factor)
        return self.layers(self.entry(x, y))


class VQVAEDecoder(MapDecoder):
    """Maps of codes to the parameters of images, or of maps, that are 2^num_upsamplings times larger.

    Args:
        latent_dim: channels d of the maps; the quantiser's.
        num_parameters: numbers P for each entry of an image; the likelihood's.
        channels: of the output: 1 for grey, 3 for colour, or those of another level's map.
        width: channels inside (256 in VQ-VAE, 128 in VQ-VAE-2); the last map of several has half as many.
        num_upsamplings: how often sides are doubled, ≥ 1.
        num_blocks: residual blocks, ≥ 0.
        block_width: channels inside a block; None for `width` as in VQ-VAE (VQ-VAE-2: 32).
        num_classes: classes, or attributes, set the bias of the first convolution.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_parameters: int,
        channels: int = 3,
        width: int = 256,
        num_upsamplings: int = 2,
        num_blocks: int = 2,
        block_width: int | None = None,
        num_classes: int | None = None,
    ) -> None:
        inner = width if block_width is None else block_width
        check_at_least(self, 2, width=width)
        check_at_least(self, 1, num_upsamplings=num_upsamplings, block_width=inner)
        check_at_least(self, 0, num_blocks=num_blocks)
        super().__init__(latent_dim, num_parameters, num_classes)
        self.out_shape = (num_parameters, channels)
        self.entry = ClassConv2d(latent_dim, width, 3, num_classes, padding=1)
        widths = _widths(width, num_upsamplings)[::-1]
        layers: list[nn.Module] = [VQVAEBlock(width, inner) for _ in range(num_blocks)]
        layers += [nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.last = nn.ConvTranspose2d(widths[-1], num_parameters * channels, 4, 2, 1)

    @property
    def last_layer(self) -> Tensor:
        """The weight of the last convolution."""
        return self.last.weight

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d, h, w) maps, and (B,) classes or (B, K) attributes, to (B, P, C, H, W) parameters."""
        return self.last(self.layers(self.entry(z, y))).unflatten(1, self.out_shape)


def _widths(width: int, halvings: int) -> list[int]:
    """Channels after each halving; the largest map of several is half as wide."""
    return [width // 2 if halvings > 1 else width] + [width] * (halvings - 1)
