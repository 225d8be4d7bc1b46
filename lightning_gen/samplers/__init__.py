"""How latents are drawn when a trained model is sampled."""

from lightning_gen.samplers.base import LatentSampler
from lightning_gen.samplers.gaussian import Gaussian, Truncated
from lightning_gen.samplers.langevin import Langevin

__all__ = ["Gaussian", "Langevin", "LatentSampler", "Truncated"]
