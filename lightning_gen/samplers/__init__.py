"""How a trained model is sampled."""

from lightning_gen.samplers.base import HasSampler, LatentSampler, Sampler
from lightning_gen.samplers.gaussian import Gaussian, Truncated
from lightning_gen.samplers.langevin import Langevin
from lightning_gen.samplers.noise import FromBase, NoiseSampler, Temperature

__all__ = [
    "FromBase",
    "Gaussian",
    "HasSampler",
    "Langevin",
    "LatentSampler",
    "NoiseSampler",
    "Sampler",
    "Temperature",
    "Truncated",
]
