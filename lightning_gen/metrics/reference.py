"""Statistics of the data, measured once and kept in a cache that goes by content."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.classes import is_class
from lightning_gen.metrics.distributed import all_sum, from_rank_zero, raise_together, require_group, warn
from lightning_gen.metrics.extractors import CHUNK, FeatureExtractor, Features, require_finite
from lightning_gen.metrics.moments import Moments, ReferenceStatistics
from lightning_gen.metrics.reference_file import pieces, read_reference, write_reference

_FORMAT = 2


class ReferenceData(Protocol):
    """What a source of data offers to metrics."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of its splits."""

    def rows(
        self, split: str, rank: int, world_size: int, batch_size: int, limit: int | None
    ) -> Iterable[Mapping[str, Any]]:
        """Batches with `x` in stored form and perhaps classes `y`, of the first `limit` rows, each row once.

        Attributes as `y` are let be. Process `rank` has the rows rank, rank + world_size, …, in order.
        """

    def fingerprint(self, split: str, limit: int | None) -> str:
        """A string that changes whenever one of these rows does."""


def reference_statistics(
    extractor: FeatureExtractor,
    data: ReferenceData,
    split: str = "train",
    num: int | None = None,
    cache_dir: str | Path | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    needs: Iterable[str] = ("moments",),
) -> ReferenceStatistics:
    """What metrics need to know of the features of `data`, from the cache where it is there.

    Every process must call it; each reads its share. Rank 0 alone looks into the cache and writes it.

    Args:
        extractor: moved to `device`.
        data: the source.
        split: which of its splits.
        num: use only the first `num` rows, ≥ 2; None for all.
        cache_dir: a folder; $LIGHTNING_GEN_CACHE or ~/.cache/lightning_gen unless given.
        rank: of this process.
        world_size: number of processes; above 1 a process group must exist.
        device: where features are computed.
        batch_size: rows at a time, ≥ 1; the result does not depend on it.
        needs: what to measure, see `GenerativeMetric.needs`: mean and covariance ("moments") are always there,
            "spatial" and "features" where they are named.

    Returns:
        Statistics on the CPU; what was cached beside them may be there without having been asked for.

    Raises:
        UserError: if the split holds fewer than 2 rows, features are not finite, or a process failed.
    """
    require_group(world_size)
    extractor.to(device)
    folder, wanted = _cache_folder(cache_dir), frozenset(needs)

    def look_up() -> tuple[dict[str, Any], ReferenceStatistics | None, frozenset[str]]:
        protocol = {"extractor": extractor.protocol(), "split": split, "limit": num}
        protocol["fingerprint"] = data.fingerprint(split, num)
        path = _path(folder, protocol)
        # what is measured anew keeps what the entry held for others
        return protocol, read_reference(path, wanted), wanted | pieces(path)

    protocol, statistics, kept = from_rank_zero(look_up, world_size)
    if statistics is None:
        rows = _Rows(extractor, kept)
        rows.read(data, split, num, rank, world_size, batch_size)
        statistics = rows.reduce(protocol, rank, world_size)
        if statistics.n is not None and statistics.n < 2:
            raise UserError(f"split {split!r} holds {statistics.n} rows, but reference statistics need at least 2")
        if rank == 0:
            _write(_path(folder, protocol), statistics)
    return statistics


class _Rows:
    """One pass over this process's share of the data, and what is kept of it."""

    def __init__(self, extractor: FeatureExtractor, wanted: frozenset[str]) -> None:
        self.extractor = extractor
        self.moments = Moments(extractor.num_features)
        self.spatial = Moments(extractor.num_spatial) if "spatial" in wanted and extractor.num_spatial else None
        self.features: list[Tensor] | None = [] if "features" in wanted else None
        self.classes: list[Tensor] = []
        self.count = 0

    def read(
        self, data: ReferenceData, split: str, num: int | None, rank: int, world_size: int, batch_size: int
    ) -> None:
        """Describe every row; all processes stop together where one fails."""
        error, waiting = None, list[Features]()
        try:
            for batch in data.rows(split, rank=rank, world_size=world_size, batch_size=batch_size, limit=num):
                waiting.append(self.extractor(batch["x"]))
                if self.features is not None and is_class(batch.get("y")):
                    self.classes.append(batch["y"].to("cpu", torch.int64))
                if sum(len(features.pooled) for features in waiting) >= CHUNK:
                    self._add(waiting, rank, world_size)
                    waiting = []
            self._add(waiting, rank, world_size)
        except Exception as failure:
            error = failure
        raise_together(error, world_size)

    def reduce(self, protocol: dict[str, Any], rank: int, world_size: int) -> ReferenceStatistics:
        """The statistics of what all processes have read."""
        mean, cov, n = self.moments.reduce(world_size)
        spatial = None
        if self.spatial is not None:
            spatial = ReferenceStatistics(*self.spatial.reduce(world_size), protocol)
        features = y = None
        if self.features is not None:
            place = torch.arange(rank, n, world_size)
            features = torch.zeros(n, self.extractor.num_features)
            features[place] = torch.cat([*self.features, features[:0]])
            features = all_sum(features, world_size)
            y = torch.zeros(n, dtype=torch.int64)  # 0 where there is no class, so that processes may be summed
            if self.classes:
                y[place] = torch.cat(self.classes) + 1
            y = all_sum(y, world_size) - 1
            y = None if bool((y < 0).any()) else y
        return ReferenceStatistics(mean, cov, n, protocol, spatial, features, y)

    def _add(self, waiting: list[Features], rank: int, world_size: int) -> None:
        if not waiting:
            return
        pooled = torch.cat([features.pooled for features in waiting]).cpu()
        spatial = None
        if self.spatial is not None:
            spatial = torch.cat([features.spatial for features in waiting if features.spatial is not None]).cpu()
        index = rank + world_size * torch.arange(self.count, self.count + len(pooled))
        require_finite(Features(pooled, spatial=spatial), index, self.extractor.name)
        self.count += len(pooled)
        self.moments.update(pooled)
        if self.spatial is not None and spatial is not None:
            self.spatial.update(spatial)
        if self.features is not None:
            self.features.append(pooled.float())


def _cache_folder(cache_dir: str | Path | None) -> Path:
    chosen = cache_dir or os.environ.get("LIGHTNING_GEN_CACHE") or Path("~/.cache/lightning_gen")
    return Path(chosen).expanduser()


def _path(folder: Path, protocol: dict[str, Any]) -> Path:
    key = json.dumps({**protocol, "format": _FORMAT}, sort_keys=True)
    return folder / f"reference-{hashlib.sha256(key.encode()).hexdigest()}.safetensors"


def _write(path: Path, statistics: ReferenceStatistics) -> None:
    """Write to the cache; one that cannot be written is no error."""
    try:
        write_reference(path, statistics)
    except OSError as error:
        warn(f"reference statistics are not cached, since {path.parent} cannot be written ({error.strerror})")
