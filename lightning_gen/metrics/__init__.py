"""Metrics of generated samples and the feature extractors they use; they work in any training loop."""

from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.digits_classifier import DigitsClassifier
from lightning_gen.metrics.engine import measure, measure_batches, protocols
from lightning_gen.metrics.extractors import FeatureExtractor, Features, quantise_images
from lightning_gen.metrics.fid import FID, frechet_distance
from lightning_gen.metrics.inception_score import InceptionScore
from lightning_gen.metrics.inception_v3 import InceptionV3
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.raw import Raw
from lightning_gen.metrics.reference import reference_statistics
from lightning_gen.metrics.rows import RowMetric
from lightning_gen.metrics.sfid import SpatialFID
from lightning_gen.metrics.sums import SumMetric

__all__ = [
    "FID",
    "DigitsClassifier",
    "FeatureExtractor",
    "Features",
    "GenerativeMetric",
    "InceptionScore",
    "InceptionV3",
    "Raw",
    "ReferenceStatistics",
    "RowMetric",
    "SpatialFID",
    "SumMetric",
    "frechet_distance",
    "measure",
    "measure_batches",
    "protocols",
    "quantise_images",
    "reference_statistics",
]
