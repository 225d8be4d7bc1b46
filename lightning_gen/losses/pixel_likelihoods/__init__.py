"""Likelihoods of pixels whose channels depend on each other, in nats a sample."""

from lightning_gen.losses.pixel_likelihoods.base import PixelLikelihood
from lightning_gen.losses.pixel_likelihoods.categorical import CategoricalPixels
from lightning_gen.losses.pixel_likelihoods.logistic_mixture import LogisticMixturePixels

__all__ = ["CategoricalPixels", "LogisticMixturePixels", "PixelLikelihood"]
