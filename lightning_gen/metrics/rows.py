"""Metrics that need the features of every sample at once: gathered by position, exact for any number of processes."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.blocks import NUM_BLOCKS, method, require_blocks
from lightning_gen.metrics.distributed import is_distributed
from lightning_gen.metrics.extractors import FeatureExtractor, Features


class RowMetric(GenerativeMetric):
    """A function of all features, (N, d) float32 in the order of the set, which every process gets whole.

    Each process writes the rows it has seen into zeros; their sum over processes is the whole, bit for bit. With
    several processes, `begin` must announce N.

    A subclass writes `compute_all` on `gathered` and `classes`, and intervals from `blocks_of` the positions.

    Args:
        extractor: what describes the samples.
        blocks: number of blocks for error bars, ≥ 2; 0 for none.

    Raises:
        UserError: if `blocks` is negative or 1.
    """

    rows: Tensor
    labels: Tensor
    filled: Tensor

    def __init__(self, extractor: FeatureExtractor, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor)
        require_blocks(type(self).__name__, blocks)
        self.blocks = blocks
        self.add_state("rows", torch.zeros(0, extractor.num_features, device="cpu"), dist_reduce_fx="sum")
        self.add_state("filled", torch.zeros(0, dtype=torch.int64, device="cpu"), dist_reduce_fx="sum")
        self.add_state("labels", torch.zeros(0, dtype=torch.int64, device="cpu"), dist_reduce_fx="sum")

    def begin(self, num_samples: int) -> None:
        """Start a set, with a place for each of its samples."""
        self.start_from_zeros("rows", num_samples, self.extractor.num_features)
        self.start_from_zeros("labels", num_samples)
        self.start_from_zeros("filled", num_samples)
        super().begin(num_samples)

    def accumulate(self, features: Features, index: Tensor) -> None:
        """Write rows to their places."""
        index = index.to(self.rows.device)
        if int(index.max()) >= len(self.rows):
            self._grow(int(index.max()) + 1)
        self.rows[index] = features.pooled.float()
        self.filled += index.bincount(minlength=len(self.filled))
        if features.y is not None:  # one more than the class, so that a sum over processes may start from 0
            self.labels[index] = features.y.to(self.labels) + 1

    @property
    def gathered(self) -> Tensor:
        """(N, d) float32 features of the set; complete after synchronisation.

        Raises:
            UserError: if a position was given twice.
        """
        count = int(self.num_seen)
        if bool((self.filled[:count] != 1).any()):
            twice = int((self.filled != 1).nonzero()[0])
            raise UserError(f"{self.name} got sample {twice} of the set {int(self.filled[twice])} times, not once")
        return self.rows[:count]

    @property
    def classes(self) -> Tensor | None:
        """(N,) int64 classes of the set, or None where samples have none."""
        labels = self.labels[: int(self.num_seen)]
        return None if bool((labels == 0).any()) else labels - 1

    def protocol(self) -> dict[str, Any]:
        """Adds how the error bars are made."""
        return {**super().protocol(), "standard_error": method(self.blocks)}

    def _grow(self, count: int) -> None:
        if self.num_samples is not None:
            raise UserError(f"{self.name} was told of {self.num_samples} samples and got sample {count - 1}")
        if is_distributed():
            raise UserError(f"{self.name} needs begin(num_samples) before the first sample where there are processes")
        more = max(count, 2 * len(self.rows)) - len(self.rows)
        self.rows = torch.cat([self.rows, self.rows.new_zeros(more, self.rows.shape[1])])
        self.labels = torch.cat([self.labels, self.labels.new_zeros(more)])
        self.filled = torch.cat([self.filled, self.filled.new_zeros(more)])
