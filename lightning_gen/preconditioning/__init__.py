"""What the output of a network says about a noisy sample."""

from lightning_gen.preconditioning.base import Preconditioning, Scales
from lightning_gen.preconditioning.classic import Epsilon, Sample, Velocity
from lightning_gen.preconditioning.edm import EDM

__all__ = ["EDM", "Epsilon", "Preconditioning", "Sample", "Scales", "Velocity"]
