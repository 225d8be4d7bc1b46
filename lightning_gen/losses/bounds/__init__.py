"""Bounds on log p(x), to be maximised: what a variational autoencoder minimises is their negative."""

from lightning_gen.losses.bounds.base import Bound, Inference
from lightning_gen.losses.bounds.elbo import ELBO, BetaELBO, Capacity
from lightning_gen.losses.bounds.importance import CIWAE, IWAE, MIWAE, PIWAE
from lightning_gen.losses.bounds.information import InfoVAE
from lightning_gen.losses.bounds.kl import ClosedForm, KLEstimator, Levelwise, MonteCarlo
from lightning_gen.losses.bounds.path import DReG, StickingTheLanding
from lightning_gen.losses.bounds.total_correlation import BatchWeights, BetaTC, StratifiedSampling, WeightedSampling

__all__ = [
    "CIWAE",
    "ELBO",
    "IWAE",
    "MIWAE",
    "PIWAE",
    "BatchWeights",
    "BetaELBO",
    "BetaTC",
    "Bound",
    "Capacity",
    "ClosedForm",
    "DReG",
    "Inference",
    "InfoVAE",
    "KLEstimator",
    "Levelwise",
    "MonteCarlo",
    "StickingTheLanding",
    "StratifiedSampling",
    "WeightedSampling",
]
