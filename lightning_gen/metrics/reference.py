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
from lightning_gen.files import replacing
from lightning_gen.metrics.distributed import from_rank_zero, raise_together, require_group, warn
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.moments import Moments, ReferenceStatistics

_FORMAT = 1


class ReferenceData(Protocol):
    """What a source of data offers to metrics."""

    def rows(
        self, split: str, rank: int, world_size: int, batch_size: int, limit: int | None
    ) -> Iterable[Mapping[str, Any]]:
        """Batches with `x` in stored form: this process's share of the first `limit` rows, each row once."""

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
) -> ReferenceStatistics:
    """Mean and covariance of the features of `data`, from the cache where they are there.

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

    Returns:
        Statistics on the CPU, in float64.

    Raises:
        UserError: if the split holds fewer than 2 rows, or a process failed.
    """
    require_group(world_size)
    extractor.to(device)
    folder = _cache_folder(cache_dir)

    def look_up() -> tuple[dict[str, Any], tuple[Tensor, Tensor, int] | None]:
        protocol = {"extractor": extractor.protocol(), "split": split, "limit": num}
        protocol["fingerprint"] = data.fingerprint(split, num)
        return protocol, _read(_path(folder, protocol), extractor.num_features)

    protocol, moments = from_rank_zero(look_up, world_size)
    if moments is None:
        moments = _measure(extractor, data, split, num, rank, world_size, batch_size)
        if moments[2] < 2:
            raise UserError(f"split {split!r} holds {moments[2]} rows, but reference statistics need at least 2")
        if rank == 0:
            _write(_path(folder, protocol), *moments, protocol)
    return ReferenceStatistics(*moments, protocol)


def _measure(
    extractor: FeatureExtractor,
    data: ReferenceData,
    split: str,
    num: int | None,
    rank: int,
    world_size: int,
    batch_size: int,
) -> tuple[Tensor, Tensor, int]:
    moments, error = Moments(extractor.num_features), None
    try:
        for batch in data.rows(split, rank=rank, world_size=world_size, batch_size=batch_size, limit=num):
            moments.update(extractor(batch["x"]).pooled)
    except Exception as failure:
        error = failure
    raise_together(error, world_size)
    return moments.reduce(world_size)


def _cache_folder(cache_dir: str | Path | None) -> Path:
    chosen = cache_dir or os.environ.get("LIGHTNING_GEN_CACHE") or Path("~/.cache/lightning_gen")
    return Path(chosen).expanduser()


def _path(folder: Path, protocol: dict[str, Any]) -> Path:
    key = json.dumps({**protocol, "format": _FORMAT}, sort_keys=True)
    return folder / f"reference-{hashlib.sha256(key.encode()).hexdigest()}.safetensors"


def _read(path: Path, num_features: int) -> tuple[Tensor, Tensor, int] | None:
    """What `path` holds, or None if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(path.read_bytes())
        mean, cov, n = tensors["mean"], tensors["cov"], int(tensors["n"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
        warn(f"the cached statistics {path} cannot be read and are computed again")
        return None
    shapes = mean.shape == (num_features,) and cov.shape == (num_features, num_features)
    return (mean, cov, n) if shapes and mean.dtype == cov.dtype == torch.float64 else None


def _write(path: Path, mean: Tensor, cov: Tensor, n: int, protocol: dict[str, Any]) -> None:
    """Write a file that other processes see complete or not at all; a cache that cannot be written is no error."""
    from safetensors.torch import save

    contents = save(
        {"mean": mean.contiguous(), "cov": cov.contiguous(), "n": torch.tensor(n)}, {"protocol": json.dumps(protocol)}
    )
    try:
        with replacing(path, contended=True) as partial:
            partial.write_bytes(contents)
    except OSError as error:
        warn(f"reference statistics are not cached, since {path.parent} cannot be written ({error.strerror})")
