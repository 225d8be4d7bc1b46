"""Quantisers: features to discrete codes."""

from lightning_gen.distributions.quantisers.base import Quantised, Quantiser
from lightning_gen.distributions.quantisers.finite_scalar import FiniteScalarQuantiser
from lightning_gen.distributions.quantisers.gumbel import GumbelQuantiser
from lightning_gen.distributions.quantisers.lookup_free import LookupFreeQuantiser
from lightning_gen.distributions.quantisers.residual import ResidualQuantiser
from lightning_gen.distributions.quantisers.vector import (
    CosineVectorQuantiser,
    GradientVectorQuantiser,
    VectorQuantiser,
)

__all__ = [
    "CosineVectorQuantiser",
    "FiniteScalarQuantiser",
    "GradientVectorQuantiser",
    "GumbelQuantiser",
    "LookupFreeQuantiser",
    "Quantised",
    "Quantiser",
    "ResidualQuantiser",
    "VectorQuantiser",
]
