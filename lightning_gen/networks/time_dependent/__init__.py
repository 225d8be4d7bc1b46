"""Networks of a sample and a time, as diffusion and flow matching use them."""

from lightning_gen.networks.time_dependent.base import ConditionEmbed, TimeNetwork
from lightning_gen.networks.time_dependent.ddpmpp import DDPMPlusPlus
from lightning_gen.networks.time_dependent.diffusers import DiffusersUNet
from lightning_gen.networks.time_dependent.dit import DiT
from lightning_gen.networks.time_dependent.embeddings import GaussianFourier, Sinusoidal, TimeFeatures
from lightning_gen.networks.time_dependent.mlp import TimeMLP
from lightning_gen.networks.time_dependent.unet import UNet
from lightning_gen.networks.time_dependent.unet_layers import ModulatedNorm, ShiftedNorm, TimeNorm

__all__ = [
    "ConditionEmbed",
    "DDPMPlusPlus",
    "DiT",
    "DiffusersUNet",
    "GaussianFourier",
    "ModulatedNorm",
    "ShiftedNorm",
    "Sinusoidal",
    "TimeFeatures",
    "TimeMLP",
    "TimeNetwork",
    "TimeNorm",
    "UNet",
]
