"""Likelihoods of samples given a decoder's outputs, in nats a sample."""

from lightning_gen.losses.likelihoods.base import Likelihood
from lightning_gen.losses.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from lightning_gen.losses.likelihoods.bounded import BoundedGaussian
from lightning_gen.losses.likelihoods.categorical import Categorical, Tokens
from lightning_gen.losses.likelihoods.discretised import DiscretisedLogistic, DiscretisedLogisticMixture
from lightning_gen.losses.likelihoods.gaussian import Gaussian, LearnedGaussian, OptimalGaussian, SharedGaussian
from lightning_gen.losses.likelihoods.gaussian_mixture import GaussianMixture, LogisticMixture
from lightning_gen.losses.likelihoods.laplace import Laplace, LearnedLaplace
from lightning_gen.losses.likelihoods.units import bits_per_dim, dequantised_bits_per_dim

__all__ = [
    "Bernoulli",
    "BoundedGaussian",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretisedLogistic",
    "DiscretisedLogisticMixture",
    "Gaussian",
    "GaussianMixture",
    "Laplace",
    "LearnedGaussian",
    "LearnedLaplace",
    "Likelihood",
    "LogisticMixture",
    "OptimalGaussian",
    "SharedGaussian",
    "Tokens",
    "bits_per_dim",
    "dequantised_bits_per_dim",
]
