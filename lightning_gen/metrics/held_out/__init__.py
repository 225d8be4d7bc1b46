"""Metrics of held-out rows under a model: likelihoods, reconstructions, codes and disentanglement."""

from lightning_gen.metrics.held_out.base import HeldOutMetric, HeldOutRows
from lightning_gen.metrics.held_out.code_cost import CodeCost
from lightning_gen.metrics.held_out.codes import CodeUsage
from lightning_gen.metrics.held_out.dci import DCI
from lightning_gen.metrics.held_out.engine import in_model_form, measure_held_out, protocols_of, rows_of
from lightning_gen.metrics.held_out.factor_vae_score import FactorVAEScore
from lightning_gen.metrics.held_out.factors import FactorMetric, HasFactors
from lightning_gen.metrics.held_out.latents import ActiveUnits
from lightning_gen.metrics.held_out.likelihood import EvidenceLowerBound, NegativeLogLikelihood
from lightning_gen.metrics.held_out.mutual_information_gap import MutualInformationGap
from lightning_gen.metrics.held_out.predictability import SeparatedAttributePredictability
from lightning_gen.metrics.held_out.reconstruction import ReconstructionError
from lightning_gen.metrics.held_out.row_set import HeldOutSet
from lightning_gen.metrics.held_out.sums import MeanOfRows

__all__ = [
    "DCI",
    "ActiveUnits",
    "CodeCost",
    "CodeUsage",
    "EvidenceLowerBound",
    "FactorMetric",
    "FactorVAEScore",
    "HasFactors",
    "HeldOutMetric",
    "HeldOutRows",
    "HeldOutSet",
    "MeanOfRows",
    "MutualInformationGap",
    "NegativeLogLikelihood",
    "ReconstructionError",
    "SeparatedAttributePredictability",
    "in_model_form",
    "measure_held_out",
    "protocols_of",
    "rows_of",
]
