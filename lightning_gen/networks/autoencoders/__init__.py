"""Encoders and decoders."""

from lightning_gen.networks.autoencoders.base import Decoder, Encoder, MapDecoder, MapEncoder
from lightning_gen.networks.autoencoders.conv import ConvDecoder, ConvEncoder
from lightning_gen.networks.autoencoders.mlp import MLPDecoder, MLPEncoder
from lightning_gen.networks.autoencoders.residual import ResidualDecoder, ResidualEncoder
from lightning_gen.networks.autoencoders.self_attention import MultiHeadSelfAttention
from lightning_gen.networks.autoencoders.vqgan import VQGANDecoder, VQGANEncoder
from lightning_gen.networks.autoencoders.vqvae import VQVAEDecoder, VQVAEEncoder

__all__ = [
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Encoder",
    "MLPDecoder",
    "MLPEncoder",
    "MapDecoder",
    "MapEncoder",
    "MultiHeadSelfAttention",
    "ResidualDecoder",
    "ResidualEncoder",
    "VQGANDecoder",
    "VQGANEncoder",
    "VQVAEDecoder",
    "VQVAEEncoder",
]
