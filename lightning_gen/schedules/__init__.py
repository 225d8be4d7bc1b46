"""How noisy samples are at each time."""

from lightning_gen.schedules.base import NoiseSchedule
from lightning_gen.schedules.discrete import CosineBeta, DiscreteSchedule, LinearBeta, ZeroTerminalSNR
from lightning_gen.schedules.exploding import VarianceExploding
from lightning_gen.schedules.preserving import ContinuousLinearBeta, LinearLogSNR, VariancePreserving

__all__ = [
    "ContinuousLinearBeta",
    "CosineBeta",
    "DiscreteSchedule",
    "LinearBeta",
    "LinearLogSNR",
    "NoiseSchedule",
    "VarianceExploding",
    "VariancePreserving",
    "ZeroTerminalSNR",
]
