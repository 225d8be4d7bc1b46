"""Feature extractors: what describes samples to metrics."""

from lightning_gen.metrics.extractors.base import (
    CHUNK,
    QUANTISATION,
    FeatureExtractor,
    Features,
    full_float32,
    quantise_images,
    require_finite,
)

__all__ = [
    "CHUNK",
    "QUANTISATION",
    "FeatureExtractor",
    "Features",
    "full_float32",
    "quantise_images",
    "require_finite",
]
