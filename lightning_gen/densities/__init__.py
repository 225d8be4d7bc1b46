"""Densities in closed form: the rungs that models with networks are to be above."""

from lightning_gen.densities.base import AccumulatingDensity, Density
from lightning_gen.densities.covariance import Covariance, DiagonalCovariance, FullCovariance
from lightning_gen.densities.estimators import Estimator, ExpectationMaximisation, GradientDescent
from lightning_gen.densities.low_rank import FactorAnalysis, LowRankCovariance, ProbabilisticPCA
from lightning_gen.densities.mixture import KMeansStart, MixtureStart, NormalMixtureDensity, RandomStart
from lightning_gen.densities.normal import NormalDensity, Normals
from lightning_gen.densities.pixels import BernoulliPixels, DirichletCategorical, IndependentPixels
from lightning_gen.densities.uniform import UniformBox, UniformLevels

__all__ = [
    "AccumulatingDensity",
    "BernoulliPixels",
    "Covariance",
    "Density",
    "DiagonalCovariance",
    "DirichletCategorical",
    "Estimator",
    "ExpectationMaximisation",
    "FactorAnalysis",
    "FullCovariance",
    "GradientDescent",
    "IndependentPixels",
    "KMeansStart",
    "LowRankCovariance",
    "MixtureStart",
    "NormalDensity",
    "NormalMixtureDensity",
    "Normals",
    "ProbabilisticPCA",
    "RandomStart",
    "UniformBox",
    "UniformLevels",
]
