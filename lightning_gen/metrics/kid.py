"""Kernel distance between samples and data, unbiased for any number of samples."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.mmd import MMD
from lightning_gen.metrics.moments import ReferenceStatistics


class KID(MMD):
    """Kernel Inception Distance, with whatever extractor; the papers' is `kid_inception2048`.

    Source: Bińkowski et al., "Demystifying MMD GANs", ICLR 2018, section 4: the unbiased estimate of MMD² (pairs of a
    row with itself left out) with the kernel (xᵀy / d + 1)³. It may be below 0.

    By default every pair counts, which has no seed and the least variance. With `subsets` it is the papers' mean over
    random subsets of both sets, with `<name>_std` over subsets, which is no standard error: it shrinks with
    `subset_size`, not with the number of samples. Subsets are drawn as torch-fidelity draws them from `seed`.

    Args:
        extractor: what describes the samples.
        subsets: number of subsets, 100 in papers; 0 for all pairs.
        subset_size: rows of each, ≥ 2; 1000 in papers.
        seed: of the subsets.
        blocks: for the error bars of all pairs, see `RowMetric`.

    Raises:
        UserError: if `subsets` < 0 or `subset_size` < 2.
    """

    prefix = "kid"

    def __init__(
        self,
        extractor: FeatureExtractor,
        subsets: int = 0,
        subset_size: int = 1000,
        seed: int = 0,
        blocks: int = NUM_BLOCKS,
    ) -> None:
        super().__init__(extractor, blocks)
        if subsets < 0:
            raise UserError(f"KID: subsets is {subsets}, but must be at least 1, or 0 for all pairs")
        if subset_size < 2:
            raise UserError(f"KID: subset_size is {subset_size}, but must be at least 2")
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def kernel(self, x: Tensor, y: Tensor) -> Tensor:
        """(xᵀy / d + 1)³."""
        base = (x @ y.T).div_(x.shape[1]).add_(1.0)
        return base.square().mul_(base)  # pow(3) takes far longer

    def mean_within(self, total: Tensor, diagonal: Tensor, count: Tensor | int) -> Tensor:
        """Without pairs of a row with itself: unbiased."""
        return (total - diagonal) / (count * (count - 1))

    def min_samples(self) -> int:
        """Two, to make a pair."""
        return 2

    def check(self, num_samples: int) -> None:
        """Refuse sets smaller than 2 or than a subset."""
        super().check(num_samples)
        self._check_subsets(num_samples, "num_samples")

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`, which must hold a subset; samples seen so far are forgotten."""
        super().set_reference(reference)
        self._check_subsets(len(self._reference_rows()), "the number of rows of the reference")

    def compute_all(self) -> dict[str, Tensor]:
        """The value with `_se`; of subsets, their mean with `_std` (over `subsets`, not `subsets` − 1)."""
        if not self.subsets:
            return super().compute_all()
        x, y = self.gathered, self._reference_rows()
        generator = np.random.RandomState(self.seed)

        def drawn(rows: Tensor) -> Tensor:
            chosen = generator.choice(len(rows), self.subset_size, replace=False)
            return rows[torch.from_numpy(chosen).to(rows.device)]

        values = torch.stack([self.discrepancy(drawn(x), drawn(y)) for _ in range(self.subsets)])
        return {self.name: values.mean(), f"{self.name}_std": values.std(correction=0)}

    def protocol(self) -> dict[str, Any]:
        """Adds the kernel, the estimator and its subsets."""
        found = {**super().protocol(), "kernel": "(x.y / d + 1)^3", "estimator": "unbiased, all pairs"}
        if self.subsets:
            found |= {
                "estimator": "unbiased, mean over random subsets",
                "subsets": self.subsets,
                "subset_size": self.subset_size,
                "subset_seed": self.seed,
                "standard_error": None,
            }
        return found

    def _check_subsets(self, count: int, what: str) -> None:
        if self.subsets and count < self.subset_size:
            raise UserError(
                f"KID: subset_size is {self.subset_size}, but {what} is {count}: "
                f"set subset_size to {count} or less, or subsets to 0 for all pairs"
            )
