"""Augmentation of real and generated samples alike, on the device, differentiable."""

from lightning_gen.augmentation.ada import ADA
from lightning_gen.augmentation.apa import APA
from lightning_gen.augmentation.base import Augmentation
from lightning_gen.augmentation.compose import Compose
from lightning_gen.augmentation.diffaugment import DiffAugment
from lightning_gen.augmentation.flips import HorizontalFlip
from lightning_gen.augmentation.pipeline import AugmentPipeline

__all__ = ["ADA", "APA", "AugmentPipeline", "Augmentation", "Compose", "DiffAugment", "HorizontalFlip"]
