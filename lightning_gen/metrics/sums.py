"""Metrics made of sums over the samples: constant memory, one reduction, and error bars from sums over blocks."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.blocks import (
    NUM_BLOCKS,
    bias,
    blocks_of,
    enough,
    method,
    require_blocks,
    standard_error,
)
from lightning_gen.metrics.extractors import FeatureExtractor, Features


class SumMetric(GenerativeMetric):
    """A function of Σᵢ f(sampleᵢ), kept apart for each block of the set.

    Beside each value v come `v_se`, its standard error by the jackknife over blocks, and, where `corrects_bias` is
    set, `v_jackknife`, the value without the bias of order 1/N. Sets of fewer than 10 samples a block get neither.

    A subclass declares its sums by `add_block_sum` and writes `contribution` and `values`.

    Args:
        extractor: what describes the samples.
        blocks: number of blocks, ≥ 2; 0 for no error bars, and memory for one set of sums only.

    Raises:
        UserError: if `blocks` is negative or 1.
    """

    corrects_bias: ClassVar[bool] = False
    block_count: Tensor

    def __init__(self, extractor: FeatureExtractor, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor)
        require_blocks(type(self).__name__, blocks)
        self.blocks = blocks
        self._sums: list[str] = []
        self.add_block_sum("block_count")

    @abstractmethod
    def contribution(self, features: Features, index: Tensor) -> dict[str, Tensor]:
        """What float64 features of the samples `index` add to each sum but `block_count`, by its name."""

    @abstractmethod
    def values(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Float64 scalars by name, `self.name` first, from all sums, `block_count` (the number of samples) included."""

    def replicate(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `values` gives up to an error that the differences between such replicates do not feel."""
        return self.values(sums)

    def add_block_sum(self, name: str, *shape: int) -> None:
        """Declare a sum of `shape`, float64."""
        self.add_sum(name, max(self.blocks, 1), *shape)
        self._sums.append(name)

    def accumulate(self, features: Features, index: Tensor) -> None:
        """Add each sample to the sums of its block."""
        block = blocks_of(index, max(self.blocks, 1))
        for b in block.unique().tolist():
            rows = (block == b).nonzero()[:, 0]
            part = _double(features, rows)
            self.block_count[b] += len(rows)
            for name, value in self.contribution(part, index[rows]).items():
                getattr(self, name)[b] += value

    def compute_all(self) -> dict[str, Tensor]:
        """The values of the whole set, with error bars where it is large enough."""
        states = {name: getattr(self, name) for name in self._sums}
        totals = {name: state.sum(dim=0) for name, state in states.items()}
        found = self.values(totals)
        if not enough(int(totals["block_count"]), self.blocks):
            return found
        left_out = [
            self.replicate({name: totals[name] - state[b] for name, state in states.items()})
            for b in range(self.blocks)
        ]
        whole = self.replicate(totals) if self.corrects_bias else found
        for name in left_out[0]:
            others = torch.stack([values[name] for values in left_out])
            if self.corrects_bias:
                found[f"{name}_jackknife"] = found[name] - bias(whole[name], others)
            found[f"{name}_se"] = standard_error(others)
        return found

    def protocol(self) -> dict[str, Any]:
        """Adds how the error bars are made."""
        return {**super().protocol(), "standard_error": method(self.blocks)}


def _double(features: Features, rows: Tensor) -> Features:
    """Some rows of features; the floating-point ones in float64."""

    def pick(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        chosen = values[rows.to(values.device)]
        return chosen.double() if chosen.is_floating_point() else chosen

    pooled = pick(features.pooled)
    assert pooled is not None
    return Features(pooled, pick(features.logits), pick(features.spatial), pick(features.y))
