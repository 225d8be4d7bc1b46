"""How samples are drawn towards what they are conditioned on."""

from lightning_gen.guidance.base import Guidance
from lightning_gen.guidance.classifier_free import ClassifierFree

__all__ = ["ClassifierFree", "Guidance"]
