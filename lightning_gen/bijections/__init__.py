"""Invertible maps between samples and noise whose Jacobians have determinants that are cheap to compute."""

from lightning_gen.bijections.autoregressive import IAF, MAF, AutoregressiveSpline
from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.chain import Chain
from lightning_gen.bijections.compose import Compose
from lightning_gen.bijections.continuous import ContinuousFlow
from lightning_gen.bijections.coupling import NICE, NeuralSpline, RealNVP
from lightning_gen.bijections.elementwise import Logit, Standardise
from lightning_gen.bijections.fields import ConvField, MLPField, VectorField
from lightning_gen.bijections.image import (
    ActNorm,
    ChannelCoupling,
    CheckerboardCoupling,
    Glow,
    InvertibleConvolution,
    MultiScaleRealNVP,
    Squeeze,
)

__all__ = [
    "IAF",
    "MAF",
    "NICE",
    "ActNorm",
    "AutoregressiveSpline",
    "Bijection",
    "Chain",
    "ChannelCoupling",
    "CheckerboardCoupling",
    "Compose",
    "ContinuousFlow",
    "ConvField",
    "Glow",
    "InvertibleConvolution",
    "Logit",
    "MLPField",
    "MultiScaleRealNVP",
    "NeuralSpline",
    "RealNVP",
    "Squeeze",
    "Standardise",
    "VectorField",
]
