"""Metrics of generated samples and the feature extractors they use; they work in any training loop."""

from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.class_coverage import ClassCoverage
from lightning_gen.metrics.class_diversity import ClassDiversity
from lightning_gen.metrics.class_fid import ClassFID
from lightning_gen.metrics.classification_accuracy import ClassificationAccuracy
from lightning_gen.metrics.cmmd import CMMD
from lightning_gen.metrics.engine import measure, measure_batches, protocols
from lightning_gen.metrics.extractors import FeatureExtractor, Features, quantise_images
from lightning_gen.metrics.extractors.clip import CLIP
from lightning_gen.metrics.extractors.digits_classifier import DigitsClassifier
from lightning_gen.metrics.extractors.dinov2 import DINOv2
from lightning_gen.metrics.extractors.inception_v3 import InceptionV3
from lightning_gen.metrics.extractors.module import ModuleExtractor
from lightning_gen.metrics.extractors.raw import Raw
from lightning_gen.metrics.extractors.stacked import StackedDigitsClassifier
from lightning_gen.metrics.fid import FID, frechet_distance
from lightning_gen.metrics.fid_infinity import FIDInfinity
from lightning_gen.metrics.held_out import (
    DCI,
    ActiveUnits,
    CodeCost,
    CodeUsage,
    EvidenceLowerBound,
    FactorVAEScore,
    HeldOutMetric,
    MutualInformationGap,
    NegativeLogLikelihood,
    ReconstructionError,
    SeparatedAttributePredictability,
    measure_held_out,
)
from lightning_gen.metrics.inception_score import InceptionScore
from lightning_gen.metrics.kid import KID
from lightning_gen.metrics.memorisation import Memorisation
from lightning_gen.metrics.mode_coverage import ModeCoverage
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.path_length import PathLength
from lightning_gen.metrics.precision_recall import DensityCoverage, PrecisionRecall
from lightning_gen.metrics.reference import reference_statistics
from lightning_gen.metrics.rows import RowMetric
from lightning_gen.metrics.sfid import SpatialFID
from lightning_gen.metrics.sums import SumMetric

__all__ = [
    "CLIP",
    "CMMD",
    "DCI",
    "FID",
    "KID",
    "ActiveUnits",
    "ClassCoverage",
    "ClassDiversity",
    "ClassFID",
    "ClassificationAccuracy",
    "CodeCost",
    "CodeUsage",
    "DINOv2",
    "DensityCoverage",
    "DigitsClassifier",
    "EvidenceLowerBound",
    "FIDInfinity",
    "FactorVAEScore",
    "FeatureExtractor",
    "Features",
    "GenerativeMetric",
    "HeldOutMetric",
    "InceptionScore",
    "InceptionV3",
    "Memorisation",
    "ModeCoverage",
    "ModuleExtractor",
    "MutualInformationGap",
    "NegativeLogLikelihood",
    "PathLength",
    "PrecisionRecall",
    "Raw",
    "ReconstructionError",
    "ReferenceStatistics",
    "RowMetric",
    "SeparatedAttributePredictability",
    "SpatialFID",
    "StackedDigitsClassifier",
    "SumMetric",
    "frechet_distance",
    "measure",
    "measure_batches",
    "measure_held_out",
    "protocols",
    "quantise_images",
    "reference_statistics",
]
