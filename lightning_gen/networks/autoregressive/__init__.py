"""Networks that give the next token from those before it."""

from lightning_gen.networks.autoregressive.base import TokenModel
from lightning_gen.networks.autoregressive.pixelcnn import GatedPixelCNN
from lightning_gen.networks.autoregressive.transformer import CausalTransformer

__all__ = ["CausalTransformer", "GatedPixelCNN", "TokenModel"]
