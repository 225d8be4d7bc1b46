"""Auxiliary losses: what a discriminator says beside its score, and what the generator learns from it."""

from lightning_gen.losses.auxiliary.base import AuxiliaryLoss
from lightning_gen.losses.auxiliary.classification import AuxiliaryClassifier, MultiHinge
from lightning_gen.losses.auxiliary.codes import MutualInformation
from lightning_gen.losses.auxiliary.contrastive import ConditionalContrastive, DataToDataCrossEntropy

__all__ = [
    "AuxiliaryClassifier",
    "AuxiliaryLoss",
    "ConditionalContrastive",
    "DataToDataCrossEntropy",
    "MultiHinge",
    "MutualInformation",
]
