"""Inception Score: are samples classified with confidence, and do the classes vary?"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.sums import SumMetric


class InceptionScore(SumMetric):
    """exp(E KL(p(y|x) ‖ p(y))), the mean over splits of the set; the papers' is `is_inception2048`.

    Source: Salimans et al., "Improved Techniques for Training GANs", 2016, section 4. A permutation of the set, drawn
    from `seed`, is cut into contiguous splits: sample i of N is in split ⌊perm[i] · splits / N⌋. Sufficient statistics
    of each split make the value exact for any number of processes. `begin(num_samples)` must come before the samples.

    Args:
        extractor: what classifies the samples.
        splits: number of splits, ≥ 1; 10 in the papers.
        seed: of the permutation.
        blocks: for error bars, see `SumMetric`; they are of the mean over splits, which `<name>_std` is not.

    Raises:
        UserError: if the extractor gives no logits or `splits` < 1.
    """

    prefix = "is"
    higher_is_better = True

    def __init__(self, extractor: FeatureExtractor, splits: int = 10, seed: int = 0, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        if extractor.num_logits is None:
            raise UserError(f"InceptionScore needs logits, but extractor {extractor.name!r} gives none")
        if splits < 1:
            raise UserError(f"InceptionScore: splits is {splits}, but must be at least 1")
        self.splits, self.seed = splits, seed
        self._split: Tensor | None = None
        self.add_block_sum("split_count", splits)
        self.add_block_sum("probability_sum", splits, extractor.num_logits)
        self.add_block_sum("negentropy_sum", splits)

    def min_samples(self) -> int:
        """One a split."""
        return self.splits

    def begin(self, num_samples: int) -> None:
        """Start a set of `num_samples` samples, and share them out over the splits."""
        super().begin(num_samples)
        position = torch.randperm(num_samples, generator=torch.Generator().manual_seed(self.seed), device="cpu")
        self._split = position * self.splits // num_samples

    def require_ready(self) -> None:
        """Refuse samples before their number is known."""
        super().require_ready()
        if self._split is None:
            raise UserError(f"{self.name} needs begin(num_samples) before the first sample, to share them over splits")

    def contribution(self, features: Features, index: Tensor) -> dict[str, Tensor]:
        """For each split, its number of samples, Σp and Σ p·log p."""
        assert self._split is not None
        if features.logits is None:
            raise UserError(f"extractor {self.extractor.name!r} gave no logits")
        if int(index.max()) >= len(self._split):
            raise UserError(f"{self.name} was told of {len(self._split)} samples and got sample {int(index.max())}")
        # a product with 0/1 rows rather than index_add_, whose order of summation on CUDA varies
        member = F.one_hot(self._split[index], self.splits).to(features.logits)
        log_p = features.logits.log_softmax(dim=1)
        p = log_p.exp()
        return {
            "split_count": member.sum(dim=0),
            "probability_sum": member.T @ p,
            "negentropy_sum": member.T @ (p * log_p).sum(dim=1),
        }

    def values(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean over splits, and as `<name>_std` their standard deviation (over `splits`, not `splits` − 1)."""
        count = sums["split_count"]
        marginal = sums["probability_sum"] / count[:, None]
        # E KL(p ‖ q) = E Σ p log p − Σ q log q, because q is the mean of p
        scores = (sums["negentropy_sum"] / count - torch.xlogy(marginal, marginal).sum(dim=1)).exp()
        return {self.name: scores.mean(), f"{self.name}_std": scores.std(correction=0)}

    def replicate(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean over splits alone."""
        return {self.name: self.values(sums)[self.name]}

    def protocol(self) -> dict[str, Any]:
        """Adds the splits and their seed."""
        return {**super().protocol(), "splits": self.splits, "split_seed": self.seed}
