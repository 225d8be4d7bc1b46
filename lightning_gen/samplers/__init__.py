"""How a trained model is sampled."""

from lightning_gen.samplers.base import HasSampler, LatentSampler, Sampler
from lightning_gen.samplers.gaussian import Gaussian, Truncated
from lightning_gen.samplers.langevin import Langevin

__all__ = ["Gaussian", "HasSampler", "Langevin", "LatentSampler", "Sampler", "Truncated"]
