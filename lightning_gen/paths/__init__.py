"""Ways from noise to data, which noise goes to which sample, and at which times a velocity is learnt."""

from lightning_gen.paths.base import ProbabilityPath
from lightning_gen.paths.coupling import Coupling, Independent
from lightning_gen.paths.optimal_transport import MinibatchOptimalTransport
from lightning_gen.paths.sinkhorn import SinkhornTransport
from lightning_gen.paths.straight import ConditionalOptimalTransport
from lightning_gen.paths.times import LogitNormalTimes, TimeDistribution, UniformTimes
from lightning_gen.paths.variance_preserving import VariancePreserving, VariancePreservingDiffusion

__all__ = [
    "ConditionalOptimalTransport",
    "Coupling",
    "Independent",
    "LogitNormalTimes",
    "MinibatchOptimalTransport",
    "ProbabilityPath",
    "SinkhornTransport",
    "TimeDistribution",
    "UniformTimes",
    "VariancePreserving",
    "VariancePreservingDiffusion",
]
