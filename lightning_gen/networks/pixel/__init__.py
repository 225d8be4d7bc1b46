"""Networks that give each pixel's distribution from the pixels before it, and images drawn from them."""

from lightning_gen.networks.pixel.base import PixelNetwork
from lightning_gen.networks.pixel.drawing import draw_images, draw_plainly
from lightning_gen.networks.pixel.gated import GatedPixelNetwork
from lightning_gen.networks.pixel.masked import MaskedPixelCNN
from lightning_gen.networks.pixel.plus_plus import PixelCNNPlusPlus
from lightning_gen.networks.pixel.snail import PixelSNAIL

__all__ = [
    "GatedPixelNetwork",
    "MaskedPixelCNN",
    "PixelCNNPlusPlus",
    "PixelNetwork",
    "PixelSNAIL",
    "draw_images",
    "draw_plainly",
]
