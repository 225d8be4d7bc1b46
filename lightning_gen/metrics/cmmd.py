"""Kernel distance between samples and data with a Gaussian kernel on directions."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.mmd import MMD

_TINY = 1e-12


class CMMD(MMD):
    """`scale` · MMD² with k(x, y) = exp(−‖x − y‖² / 2σ²) on features of length 1; the paper's features are CLIP's.

    Source: Jayasumana et al., "Rethinking FID: Towards a Better Evaluation Metric for Image Generation", CVPR 2024,
    section 4. As in the authors' code, means go over all pairs, those of a row with itself included (the V-statistic,
    Gretton et al., 2012, equation 5): never below 0 beyond rounding, and biased upwards by about
    `scale` · (1 − E k) · (1/N + 1/M).

    Args:
        extractor: what describes the samples.
        sigma: σ > 0, 10 in the paper.
        scale: > 0, 1000 in the paper, for readable numbers.
        blocks: for error bars, see `RowMetric`.

    Raises:
        UserError: if `sigma` or `scale` is not positive.
    """

    prefix = "cmmd"

    def __init__(
        self, extractor: FeatureExtractor, sigma: float = 10.0, scale: float = 1000.0, blocks: int = NUM_BLOCKS
    ) -> None:
        super().__init__(extractor, blocks)
        for name, value in (("sigma", sigma), ("scale", scale)):
            if not value > 0:
                raise UserError(f"CMMD: {name} is {value}, but must be above 0")
        self.sigma, self.scale = sigma, scale

    def kernel(self, x: Tensor, y: Tensor) -> Tensor:
        """exp(−‖x/‖x‖ − y/‖y‖‖² / 2σ²) = exp((cos − 1) / σ²), the cosine of a row of zeros taken as 0."""
        length_x, length_y = (torch.linalg.vector_norm(rows, dim=1).clamp(min=_TINY) for rows in (x, y))
        cosine = (x @ y.T).div_(length_x[:, None]).div_(length_y)
        return cosine.sub_(1.0).div_(self.sigma**2).exp_()

    def mean_within(self, total: Tensor, diagonal: Tensor, count: Tensor | int) -> Tensor:
        """Over all pairs, as the authors' code does."""
        return total / (count * count)

    def compute_all(self) -> dict[str, Tensor]:
        """The value and its standard error, both scaled."""
        return {name: self.scale * value for name, value in super().compute_all().items()}

    def protocol(self) -> dict[str, Any]:
        """Adds the kernel, the estimator and the scale."""
        return {
            **super().protocol(),
            "kernel": "exp(-|x - y|^2 / (2 sigma^2)) of L2-normalised features",
            "sigma": self.sigma,
            "estimator": "V-statistic, pairs of a row with itself included",
            "scale": self.scale,
        }
