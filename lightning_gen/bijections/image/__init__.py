"""Bijections of images, and flows of several resolutions made of them."""

from lightning_gen.bijections.image.actnorm import ActNorm
from lightning_gen.bijections.image.convolution import InvertibleConvolution
from lightning_gen.bijections.image.coupling import ChannelCoupling, CheckerboardCoupling, Coupling
from lightning_gen.bijections.image.elementwise import (
    Additive,
    Elementwise,
    ExponentialAffine,
    SigmoidAffine,
    TanhAffine,
)
from lightning_gen.bijections.image.glow import Glow
from lightning_gen.bijections.image.logistic_mixture import LogisticMixture
from lightning_gen.bijections.image.multiscale import MultiScale
from lightning_gen.bijections.image.networks import (
    CouplingNetwork,
    ResidualNetwork,
    ThreeLayerNetwork,
    ZeroConvolution,
)
from lightning_gen.bijections.image.prior import ChannelPrior
from lightning_gen.bijections.image.realnvp import MultiScaleRealNVP
from lightning_gen.bijections.image.squeeze import Squeeze

__all__ = [
    "ActNorm",
    "Additive",
    "ChannelCoupling",
    "ChannelPrior",
    "CheckerboardCoupling",
    "Coupling",
    "CouplingNetwork",
    "Elementwise",
    "ExponentialAffine",
    "Glow",
    "InvertibleConvolution",
    "LogisticMixture",
    "MultiScale",
    "MultiScaleRealNVP",
    "ResidualNetwork",
    "SigmoidAffine",
    "Squeeze",
    "TanhAffine",
    "ThreeLayerNetwork",
    "ZeroConvolution",
]
