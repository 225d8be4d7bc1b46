"""Plain `torch.nn` networks; no Lightning, no losses."""

from lightning_gen.networks.base import Discriminator, Generator, Judgement
from lightning_gen.networks.biggan import BigGANDiscriminator, BigGANGenerator
from lightning_gen.networks.biggan_deep import BigGANDeepDiscriminator, BigGANDeepGenerator
from lightning_gen.networks.concatenated import ConcatenatedClasses
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from lightning_gen.networks.heads import Classifier, Codes, Contrastive, Head, Projection
from lightning_gen.networks.initialise import Initialisation, Normal, Orthogonal, Xavier
from lightning_gen.networks.minibatch import MinibatchStd
from lightning_gen.networks.mlp import MLPDiscriminator, MLPGenerator
from lightning_gen.networks.noisy_mlp import NoisyMLPDiscriminator, SoftplusMLPGenerator
from lightning_gen.networks.packed import Packed
from lightning_gen.networks.patch import MapDiscriminator, PatchDiscriminator
from lightning_gen.networks.r3gan import EmbeddedScore, R3GANDiscriminator, R3GANGenerator
from lightning_gen.networks.resnet import ResNetDiscriminator, ResNetGenerator
from lightning_gen.networks.stylegan2 import MappedScore, StyleGAN2Discriminator, StyleGAN2Generator

__all__ = [
    "BigGANDeepDiscriminator",
    "BigGANDeepGenerator",
    "BigGANDiscriminator",
    "BigGANGenerator",
    "Classifier",
    "Codes",
    "ConcatenatedClasses",
    "Contrastive",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Discriminator",
    "Embed",
    "EmbeddedScore",
    "Generator",
    "Head",
    "Initialisation",
    "Judgement",
    "MLPDiscriminator",
    "MLPGenerator",
    "MapDiscriminator",
    "MappedScore",
    "MinibatchStd",
    "NoisyMLPDiscriminator",
    "Normal",
    "Orthogonal",
    "Packed",
    "PatchDiscriminator",
    "Projection",
    "R3GANDiscriminator",
    "R3GANGenerator",
    "ResNetDiscriminator",
    "ResNetGenerator",
    "SoftplusMLPGenerator",
    "StyleGAN2Discriminator",
    "StyleGAN2Generator",
    "Xavier",
]
