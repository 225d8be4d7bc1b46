"""Maximum mean discrepancy of samples and data: the part that KID and CMMD share."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.metrics.blocks import NUM_BLOCKS, standard_error
from lightning_gen.metrics.distances import Tiles, pairs_between, pairs_within
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.rows import RowMetric


class MMD(RowMetric):
    """MMD² = E k(x, x′) + E k(y, y′) − 2 E k(x, y) over all pairs of samples x and rows of the data y.

    Source: Gretton et al., "A Kernel Two-Sample Test", JMLR 13, 2012, section 2.2.

    `<name>_se` is its standard error for another draw of as many samples; the reference is held fixed, and its part
    of the sum is computed once. Sums over pairs of blocks give the values with a block left out exactly.

    A subclass writes `kernel` and `mean_within`.

    Args:
        extractor: what describes the samples.
        blocks: for error bars, see `RowMetric`.
    """

    higher_is_better = False
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, extractor: FeatureExtractor, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        self._reference_mean: Tensor | None = None

    @abstractmethod
    def kernel(self, x: Tensor, y: Tensor) -> Tensor:
        """The kernel k of (a, d) and (b, d) float64 rows: (a, b)."""

    @abstractmethod
    def mean_within(self, total: Tensor, diagonal: Tensor, count: Tensor | int) -> Tensor:
        """E k(x, x′) from Σᵢⱼ k(xᵢ, xⱼ), Σᵢ k(xᵢ, xᵢ) and the number of rows; of any common shape."""

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; samples seen so far are forgotten."""
        super().set_reference(reference)
        self._reference_mean = None

    def compute_all(self) -> dict[str, Tensor]:
        """The value, and its standard error where the set is large enough."""
        x, y = self.gathered, self._reference_rows()
        if self._reference_mean is None:
            self._reference_mean = self._mean_of(y)
        reference_mean = self._reference_mean.to(x.device)
        tiles = Tiles.of(x, self.blocks)
        pairs, diagonal = self._sums_within(x, tiles)
        cross = self._sums_between(x, tiles, y)

        def value(total: Tensor, diagonal: Tensor, cross: Tensor, count: Tensor | int) -> Tensor:
            return self.mean_within(total, diagonal, count) + reference_mean - 2.0 * cross / (count * len(y))

        found = {self.name: value(pairs.sum(), diagonal.sum(), cross.sum(), len(x))}
        if tiles.blocks > 1:
            rest = pairs.sum() - 2.0 * pairs.sum(dim=1) + pairs.diagonal()
            left_out = value(rest, diagonal.sum() - diagonal, cross.sum() - cross, len(x) - tiles.sizes)
            found[f"{self.name}_se"] = standard_error(left_out)
        return found

    def discrepancy(self, x: Tensor, y: Tensor) -> Tensor:
        """MMD² of two sets (N, d) and (M, d), a float64 scalar."""
        cross = self._sums_between(x, Tiles.of(x), y).sum()
        return self._mean_of(x) + self._mean_of(y) - 2.0 * cross / (len(x) * len(y))

    def protocol(self) -> dict[str, Any]:
        """Adds the arithmetic."""
        return {**super().protocol(), "sums": "float64"}

    def _reference_rows(self) -> Tensor:
        rows = self.data_statistics().features
        assert rows is not None
        return rows

    def _mean_of(self, x: Tensor) -> Tensor:
        pairs, diagonal = self._sums_within(x, Tiles.of(x))
        return self.mean_within(pairs.sum(), diagonal.sum(), len(x))

    def _sums_within(self, x: Tensor, tiles: Tiles) -> tuple[Tensor, Tensor]:
        """Σ k over each pair of blocks, (blocks, blocks) symmetric, and Σᵢ k(xᵢ, xᵢ) over each block, (blocks,)."""
        pairs = torch.zeros(tiles.blocks, tiles.blocks, dtype=torch.float64, device=x.device)
        diagonal = pairs.new_zeros(tiles.blocks)
        for a, b, xa, xb in pairs_within(x, tiles):
            values = self.kernel(xa, xb)
            total = values.sum()
            pairs[a.block, b.block] += total
            if a is b:
                diagonal[a.block] += values.diagonal().sum()
            else:
                pairs[b.block, a.block] += total
        return pairs, diagonal

    def _sums_between(self, x: Tensor, tiles: Tiles, y: Tensor) -> Tensor:
        """Σ k(x, y) over each block of x and all of y, (blocks,)."""
        sums = torch.zeros(tiles.blocks, dtype=torch.float64, device=x.device)
        for a, _, xa, yb in pairs_between(x, tiles, y, Tiles.of(y)):
            sums[a.block] += self.kernel(xa, yb).sum()
        return sums
