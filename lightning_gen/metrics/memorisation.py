"""Are samples copies of training rows?"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS, standard_error
from lightning_gen.metrics.distances import Tiles, nearest_row
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.reference import reference_statistics
from lightning_gen.metrics.rows import RowMetric

SUBSET_SEED = 0


class Memorisation(RowMetric):
    """How near samples come to training rows: `authpct_<extractor>` and, with held-out data, `nn_ratio_<extractor>`.

    `authpct`, in [0, 100], is the percentage of authentic samples: those farther from their nearest training row than
    that row is from its own nearest other one. Source: Alaa et al., "How Faithful is your Synthetic Data?", ICML 2022,
    section 3.3; Stein et al., "Exposing flaws of generative model evaluation metrics", NeurIPS 2023, as a percentage.

    `nn_ratio` is the mean distance from a sample to its nearest training row over that to its nearest held-out row,
    both sets cut to the size of the smaller at random: about 1 for a model that knows no training row better than a
    row it never saw, towards 0 for one that copies. After the idea of Meehan et al., "A Non-Parametric Test to Detect
    Data-Copying in Generative Models", AISTATS 2020, who compare the ranks of such distances.

    `details()` names the samples that are nearest to a training row, which one should look at.

    Args:
        extractor: what describes the samples.
        pairs: how many of these are named, ≥ 0.
        blocks: for error bars, see `RowMetric`; training and held-out rows are held fixed.

    Raises:
        UserError: if `pairs` is negative.
    """

    prefix = "authpct"
    higher_is_better = None  # to copy less is no virtue beyond what a fresh draw of data would do
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, extractor: FeatureExtractor, pairs: int = 16, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        if pairs < 0:
            raise UserError(f"Memorisation: pairs is {pairs}, but must be at least 0")
        self.pairs = pairs
        self.ratio_name = f"nn_ratio_{extractor.name}"
        self.held_out: ReferenceStatistics | None = None
        self._own: Tensor | None = None
        self._pairs: list[dict[str, Any]] | None = None

    def fit_reference(self, data: Any, **options: Any) -> None:
        """Measure training and held-out rows, or find them in the cache.

        Args:
            data: a source of rows, see `reference.ReferenceData`, with `splits`, a tuple of their names. Training
                rows are those of "train", or of the option `split` where there is no such split; held-out rows those
                of "test", else of "val", if any.
            options: keyword arguments of `reference.reference_statistics`.
        """
        train = "train" if "train" in data.splits else options.get("split", "train")
        super().fit_reference(data, **(options | {"split": train}))
        for split in ("test", "val"):
            if split in data.splits and split != train:
                own = {"split": split, "needs": self.needs}
                self.set_held_out(reference_statistics(self.extractor, data, **(options | own)))
                break

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Take `reference` for the training rows; held-out rows and samples seen so far are forgotten."""
        super().set_reference(reference)
        self.held_out = self._own = self._pairs = None

    def set_held_out(self, held_out: ReferenceStatistics) -> None:
        """Compare with rows that training did not see, too; after `set_reference`.

        Raises:
            UserError: if they were described by another extractor, are fewer than 2, or were made without features.
        """
        held_out.check(self.name, self.extractor)
        if held_out.features is None:
            raise UserError(f"the held-out data of {self.name} were measured without features, which it needs")
        self.held_out = held_out

    def compute_all(self) -> dict[str, Tensor]:
        """The percentage and the ratio, with standard errors where the set is large enough."""
        x, train = self.gathered, self.data_statistics().features
        assert train is not None
        tiles = Tiles.of(x, self.blocks)
        row, distance = nearest_row(x, train)
        own = self._own_distances(train, row)
        self._pairs = self._nearest_pairs(row, distance, own)
        authentic = 100.0 * (own < distance).double()
        found = {self.name: authentic.mean()}
        if tiles.blocks > 1:
            found[f"{self.name}_se"] = standard_error(tiles.left_out_means(authentic))
        if self.held_out is not None:
            self.held_out = self.held_out.to(x.device)
            held_out = self.held_out.features
            assert held_out is not None
            count = min(len(train), len(held_out))
            seen = distance if count == len(train) else nearest_row(x, _subset(train, count))[1]
            unseen = nearest_row(x, _subset(held_out, count))[1]
            found[self.ratio_name] = seen.mean() / unseen.mean()
            if tiles.blocks > 1:
                left_out = tiles.left_out_means(seen) / tiles.left_out_means(unseen)
                found[f"{self.ratio_name}_se"] = standard_error(left_out)
        return found

    def details(self) -> dict[str, Any]:
        """`nearest_pairs` of the last set as `neighbours`; nothing before it."""
        return {} if self._pairs is None else {"neighbours": self._pairs}

    def nearest_pairs(self) -> list[dict[str, Any]]:
        """The `pairs` samples of the last set that are nearest to a training row, the nearest first.

        They are ordered by `relative`: `distance` over the distance of that row to its nearest other training row, at
        most 1 for samples that are not authentic. It is None, and last, near a row that the training data hold twice,
        unless the sample is a third copy: then 0.

        Returns:
            Of each its position `sample` in the set, the `row` in the `split`, `distance` and `relative`; JSON-able.

        Raises:
            UserError: if nothing was computed yet.
        """
        if self._pairs is None:
            raise UserError(f"{self.name} has seen no set yet: compute it before asking for its nearest pairs")
        return self._pairs

    def protocol(self) -> dict[str, Any]:
        """Adds the held-out data and how the values are made."""
        found = {
            **super().protocol(),
            "values": [self.name],
            "authentic": "distance to nearest training row > distance of that row to its nearest other one",
            "distances": "float64",
        }
        if self.held_out is not None:
            held_out = {**self.held_out.protocol, "num": self.held_out.n}
            held_out.pop("extractor", None)
            found |= {"values": [self.name, self.ratio_name], "held_out": held_out, "subset_seed": SUBSET_SEED}
        return found

    def _own_distances(self, train: Tensor, rows: Tensor) -> Tensor:
        """(N,) from these training rows to their nearest other one; each is computed once for a reference."""
        known = torch.full((len(train),), torch.nan, dtype=torch.float64) if self._own is None else self._own
        # a copy, since one made in inference mode may not be written to outside it
        own = known.to(train.device, copy=True)
        asked = rows.unique()
        missing = asked[own[asked].isnan()]
        if len(missing):
            own[missing] = nearest_row(train[missing], train, exclude=missing)[1]
        self._own = own
        return own[rows]

    def _nearest_pairs(self, row: Tensor, distance: Tensor, own: Tensor) -> list[dict[str, Any]]:
        relative = torch.where(distance == 0, 0.0, distance / own)  # infinite where only `own` is 0
        # by distance, then, keeping that order among equals, by relative distance; on the CPU, where sorts are stable
        order = distance.cpu().argsort(stable=True)
        order = order[relative.cpu()[order].argsort(stable=True)][: self.pairs]
        split = None if self.reference is None else self.reference.protocol.get("split")
        return [
            {
                "sample": i,
                "row": int(row[i]),
                "split": split,
                "distance": float(distance[i]),
                "relative": float(relative[i]) if bool(relative[i].isfinite()) else None,
            }
            for i in order.tolist()
        ]


def _subset(rows: Tensor, count: int) -> Tensor:
    """`count` of the rows, drawn from a fixed seed; all of them where they are no more."""
    if count == len(rows):
        return rows
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(SUBSET_SEED), device="cpu")
    return rows[order[:count].to(rows.device)]
