"""Priors and posteriors over latents, and quantisers."""

from lightning_gen.distributions.base import Parameters, VariationalLayer
from lightning_gen.distributions.categorical import GumbelSoftmax, StraightThroughCategorical, UniformCategorical
from lightning_gen.distributions.deterministic import Deterministic
from lightning_gen.distributions.fixed_mixture import FixedMixture, RingMixture
from lightning_gen.distributions.flow import AutoregressiveFlow, InverseAutoregressiveFlow, RealNVPFlow
from lightning_gen.distributions.horseshoe import Horseshoe, StandardHorseshoe
from lightning_gen.distributions.hyperspherical import UniformSphere, VonMisesFisher
from lightning_gen.distributions.laplace import DiagonalLaplace, StandardLaplace
from lightning_gen.distributions.logistic import StandardLogistic
from lightning_gen.distributions.mixture import NormalMixture
from lightning_gen.distributions.normal import DiagonalNormal, FullNormal, LowRankNormal, StandardNormal
from lightning_gen.distributions.piecewise import PiecewiseNormal
from lightning_gen.distributions.rectified import RectifiedNormal, StandardRectifiedNormal
from lightning_gen.distributions.running_normal import RunningNormal
from lightning_gen.distributions.seeded import draw
from lightning_gen.distributions.split_normal import SplitNormal
from lightning_gen.distributions.vampprior import VampPrior

__all__ = [
    "AutoregressiveFlow",
    "Deterministic",
    "DiagonalLaplace",
    "DiagonalNormal",
    "FixedMixture",
    "FullNormal",
    "GumbelSoftmax",
    "Horseshoe",
    "InverseAutoregressiveFlow",
    "LowRankNormal",
    "NormalMixture",
    "Parameters",
    "PiecewiseNormal",
    "RealNVPFlow",
    "RectifiedNormal",
    "RingMixture",
    "RunningNormal",
    "SplitNormal",
    "StandardHorseshoe",
    "StandardLaplace",
    "StandardLogistic",
    "StandardNormal",
    "StandardRectifiedNormal",
    "StraightThroughCategorical",
    "UniformCategorical",
    "UniformSphere",
    "VampPrior",
    "VariationalLayer",
    "VonMisesFisher",
    "draw",
]
