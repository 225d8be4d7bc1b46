"""Terms of a player's loss beside the adversarial one."""

from lightning_gen.losses.penalties.base import (
    DiscriminatorTurn,
    Generate,
    GeneratorPenalty,
    GeneratorTurn,
    Judge,
    Penalty,
    Scores,
)
from lightning_gen.losses.penalties.consistency import (
    BalancedConsistency,
    Consistency,
    LatentConsistency,
    LatentDiversity,
)
from lightning_gen.losses.penalties.generator import FeatureMatching, HasStyles, PathLength
from lightning_gen.losses.penalties.gradient import (
    DRAGAN,
    R1,
    R2,
    GradientPenalty,
    MaxGradientPenalty,
    OneSidedGradientPenalty,
    gradient_norm,
    squared_gradient_norm,
)
from lightning_gen.losses.penalties.lecam import LeCam
from lightning_gen.losses.penalties.weights import GeneratorOrthogonal, Orthogonal, filter_overlap

__all__ = [
    "DRAGAN",
    "R1",
    "R2",
    "BalancedConsistency",
    "Consistency",
    "DiscriminatorTurn",
    "FeatureMatching",
    "Generate",
    "GeneratorOrthogonal",
    "GeneratorPenalty",
    "GeneratorTurn",
    "GradientPenalty",
    "HasStyles",
    "Judge",
    "LatentConsistency",
    "LatentDiversity",
    "LeCam",
    "MaxGradientPenalty",
    "OneSidedGradientPenalty",
    "Orthogonal",
    "PathLength",
    "Penalty",
    "Scores",
    "filter_overlap",
    "gradient_norm",
    "squared_gradient_norm",
]
