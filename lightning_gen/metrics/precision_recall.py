"""Is every sample near the data, and are all data near a sample? Two answers to each, from balls around neighbours."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS, standard_error
from lightning_gen.metrics.distances import Tiles, nearest_others, pairs_between, squared_distances
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.rows import RowMetric

_PAIRS = 2**18
"""Pairs of a real row and a sample that are looked at together, once for each block."""


class NeighbourMetric(RowMetric):
    """What metrics of balls share: each real row's reaches to its k-th nearest other real row.

    Standard errors are for another draw of as many samples; the reference is held fixed, and its radii are computed
    once.

    Args:
        extractor: what describes the samples.
        k: neighbours, ≥ 1, a row itself not counted.
        blocks: for error bars, see `RowMetric`.

    Raises:
        UserError: if `k` < 1.
    """

    higher_is_better = True
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, extractor: FeatureExtractor, k: int, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        if k < 1:
            raise UserError(f"{type(self).__name__}: k is {k}, but must be at least 1")
        self.k = k
        self._reference_radii: Tensor | None = None

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; samples seen so far are forgotten.

        Raises:
            UserError: if it has no k other rows for each row, or see `GenerativeMetric`.
        """
        super().set_reference(reference)
        if (count := len(reference.rows)) <= self.k:
            raise UserError(f"the reference of {self.name} holds {count} rows, but k={self.k} needs more than k")
        self._reference_radii = None

    def real_rows(self) -> tuple[Tensor, Tensor]:
        """Features (M, d) float32 of the data and the squared radii (M,) float64 of their balls."""
        y = self.data_statistics().rows
        if self._reference_radii is None:
            self._reference_radii = nearest_others(y, Tiles.of(y), self.k, y[0].double())[:, 0, -1]
        self._reference_radii = self._reference_radii.to(y.device)
        return y, self._reference_radii

    def protocol(self) -> dict[str, Any]:
        """Adds k and the arithmetic."""
        return {**super().protocol(), "k": self.k, "distances": "float64"}


class PrecisionRecall(NeighbourMetric):
    """Improved precision and recall: `precision_<extractor>` and `recall_<extractor>`, both in [0, 1].

    Precision is the fraction of samples in the ball of some real row, recall that of real rows in the ball of some
    sample; a ball reaches to the k-th nearest other row of its own set, its surface included.

    Source: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019,
    equations 1 and 2. Both depend on the sizes of the sets: compare only equal ones.

    Args:
        extractor: what describes the samples; VGG-16's features in the paper.
        k: neighbours, 3 in the paper.
        blocks: for error bars, see `RowMetric`. Leaving a block out also moves the balls of samples, exactly.
    """

    prefix = "precision"

    def __init__(self, extractor: FeatureExtractor, k: int = 3, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, k, blocks)
        self.recall_name = f"recall_{extractor.name}"

    def min_samples(self) -> int:
        """A sample needs k others."""
        return self.k + 1

    def compute_all(self) -> dict[str, Tensor]:
        """Precision and recall, with standard errors where the set is large enough."""
        x, (y, real_radii) = self.gathered, self.real_rows()
        origin = y[0].double()
        # with one block left out of two, the k-th neighbour must still be there
        tiles = Tiles.of(x, self.blocks if len(x) > 2 * self.k + 2 else 0)
        radii = _radii(nearest_others(x, tiles, self.k, origin), tiles)
        precise = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        recalled = torch.zeros(len(y), radii.shape[1], dtype=torch.bool, device=x.device)
        for a, b, ya, xb in pairs_between(y, Tiles.of(y), x, tiles, origin):
            squared = squared_distances(ya, xb)
            precise[b.rows] = torch.maximum(precise[b.rows], (squared <= real_radii[a.rows, None]).any(dim=0).double())
            recalled[a.rows] = _also_reached(recalled[a.rows], squared, radii[b.rows])
        recall = recalled.double().mean(dim=0)
        found = {self.name: precise.mean(), self.recall_name: recall[0]}
        if tiles.blocks > 1:
            found[f"{self.name}_se"] = standard_error(tiles.left_out_means(precise))
            found[f"{self.recall_name}_se"] = standard_error(recall[1:])
        return found

    def protocol(self) -> dict[str, Any]:
        """Adds what the values are called and that surfaces belong to balls."""
        return {**super().protocol(), "values": [self.name, self.recall_name], "inside": "distance <= radius"}


class DensityCoverage(NeighbourMetric):
    """`density_<extractor>`, ≥ 0, and `coverage_<extractor>`, in [0, 1].

    Density is how many balls of real rows a sample lies in on average, over k: about 1 for samples like the data, and
    above 1 where they crowd among them. Coverage is the fraction of real balls that hold a sample. Balls are those of
    real rows only, their surface excluded, as in the authors' code.

    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020, equations 3
    and 4.

    Args:
        extractor: what describes the samples.
        k: neighbours, 5 in the paper.
        blocks: for error bars, see `RowMetric`.
    """

    prefix = "density"

    def __init__(self, extractor: FeatureExtractor, k: int = 5, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, k, blocks)
        self.coverage_name = f"coverage_{extractor.name}"

    def compute_all(self) -> dict[str, Tensor]:
        """Density and coverage, with standard errors where the set is large enough."""
        x, (y, real_radii) = self.gathered, self.real_rows()
        tiles = Tiles.of(x, self.blocks)
        balls = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        closest = torch.full((len(y), tiles.blocks), torch.inf, dtype=torch.float64, device=x.device)
        for a, b, ya, xb in pairs_between(y, Tiles.of(y), x, tiles, y[0].double()):
            squared = squared_distances(ya, xb)
            balls[b.rows] += (squared < real_radii[a.rows, None]).sum(dim=0)
            closest[a.rows, b.block] = torch.minimum(closest[a.rows, b.block], squared.amin(dim=1))
        covered = (closest < real_radii[:, None]).sum(dim=1)
        found = {self.name: balls.mean() / self.k, self.coverage_name: (covered > 0).double().mean()}
        if tiles.blocks > 1:
            others = covered[:, None] - (closest < real_radii[:, None]).long()
            found[f"{self.name}_se"] = standard_error(tiles.left_out_means(balls) / self.k)
            found[f"{self.coverage_name}_se"] = standard_error((others > 0).double().mean(dim=0))
        return found

    def protocol(self) -> dict[str, Any]:
        """Adds what the values are called and that surfaces do not belong to balls."""
        return {**super().protocol(), "values": [self.name, self.coverage_name], "inside": "distance < radius"}


def _radii(near: Tensor, tiles: Tiles) -> Tensor:
    """Squared radii of samples among all, and with each block left out in turn.

    Args:
        near: (N, blocks, k), see `nearest_others`.
        tiles: of the samples.

    Returns:
        (N, 1 + blocks); (N, 1) where there is one block. A sample has no ball where it is left out itself: −∞.
    """
    every = _kth(near)[:, None]
    if tiles.blocks == 1:
        return every
    blocks = range(tiles.blocks)
    left_out = [_kth(near[:, [c for c in blocks if c != b]]) for b in blocks]
    radii = torch.cat((every, torch.stack(left_out, dim=1)), dim=1)
    for tile in tiles.tiles:
        radii[tile.rows, 1 + tile.block] = -torch.inf
    return radii


def _kth(near: Tensor) -> Tensor:
    """The k-th smallest of the k smallest in each of some blocks, (N, ·, k): (N,)."""
    # kthvalue has no deterministic form on CUDA
    return near.flatten(1).topk(near.shape[2], largest=False).values[:, -1]


def _also_reached(reached: Tensor, squared: Tensor, radii: Tensor) -> Tensor:
    """Which real rows are in a ball, after looking at more samples.

    Args:
        reached: (m, c) bool, for each of c cases whether a row was in a ball before.
        squared: (m, n) squared distances from real rows to the samples.
        radii: (n, c) squared, of the samples' balls in each case.
    """
    # few pairs are within reach of rows that still matter: looking at each case of these only spares c passes
    open_rows = ~reached.all(dim=1)
    row, column = ((squared <= radii.amax(dim=1)) & open_rows[:, None]).nonzero(as_tuple=True)
    hits = torch.zeros(reached.shape, dtype=torch.int64, device=reached.device)
    for i, j in zip(row.split(_PAIRS), column.split(_PAIRS), strict=True):
        hits.index_add_(0, i, (squared[i, j, None] <= radii[j]).long())
    return reached | (hits > 0)
