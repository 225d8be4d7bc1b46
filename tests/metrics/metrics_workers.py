"""What the tests run in several processes. Spawned processes import it by name, as they cannot import a test module."""

import json
import os
import warnings
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from metrics_fakes import Linear, Table, sampler, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import (
    CMMD,
    FID,
    KID,
    ClassCoverage,
    ClassDiversity,
    ClassFID,
    ClassificationAccuracy,
    DensityCoverage,
    FIDInfinity,
    InceptionScore,
    Memorisation,
    ModeCoverage,
    PrecisionRecall,
    measure,
    reference_statistics,
)
from lightning_gen.noise import sample_seeds

WORLDS = (8, 4, 3, 2)
"""Numbers of processes; the first is for a set that is smaller than it."""
SETS = {1001: 10, 1000: 10, 7: 1}
"""Numbers of samples, with splits of the inception score."""


class Data(Table):
    """With classes, and as held-out data the same rows the other way round."""

    splits = ("train", "test")

    def rows(self, split="train", rank=0, world_size=1, batch_size=256, limit=None):
        x = self.x if split == "train" else -self.x
        return ({"x": x, "y": classes(x)} for x in x[:limit][rank::world_size].split(batch_size) if len(x))


def classes(x):
    return (x[:, 0] > 0).long()


def draw(seeds):
    x = sampler(seeds)
    return {"x": x, "y": classes(x)}


def metrics_of(n):
    e = Linear()
    found = [FID(e), InceptionScore(e, splits=SETS[n]), KID(e), CMMD(e), PrecisionRecall(e), DensityCoverage(e)]
    found += [Memorisation(e), ClassCoverage(e)]
    if n >= 1000:  # each class needs members, and the extrapolation parts
        found += [FIDInfinity(e), ClassFID(e), ClassDiversity(e), ClassificationAccuracy(e), ModeCoverage(e)]
    return found


def sizes(world_size):
    return (7,) if world_size == WORLDS[0] else tuple(SETS)


def run(rank, world_size, folder):
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*biased upwards.*|.*fewer.*")
    torch.set_num_threads(1)
    torch.manual_seed(rank)  # as after a rank-dependent seed in training
    results = {}
    for n in sizes(world_size) if world_size > 1 else SETS:
        metrics = metrics_of(n)
        options = {"cache_dir": folder / f"cache{world_size}-{n}", "rank": rank, "world_size": world_size}
        for metric in metrics:
            metric.fit_reference(Data(vectors(n)), batch_size=5 + rank, **options)
        for metric in metrics:  # torchmetrics' own way: no engine, one update or none, and a synchronising compute
            metric.begin(n)
            if len(mine := torch.arange(n)[rank::world_size]):
                x = sampler(sample_seeds(3, mine))
                metric.update_features(replace(metric.extractor(x), y=classes(x)), mine)
            results[f"{n} plain {metric.name}"] = float(metric.compute())
        values = measure(
            draw,
            metrics,
            num_samples=n,
            batch_size=10 + 7 * rank,
            seed=3,
            device="cpu",
            rank=rank,
            world_size=world_size,
            quantise=lambda x: x,
        )
        results |= {f"{n} {name}": value for name, value in values.items()}
    if world_size == 3:
        _failures(rank, world_size, folder)
    (folder / f"{world_size}-{rank}.json").write_text(json.dumps(results))


def _failures(rank, world_size, folder):
    """One process fails: all stop, and none waits."""

    def broken(seeds):
        return sampler(seeds) * (torch.nan if rank == 1 else 1)

    metrics = [InceptionScore(Linear())]
    with pytest.raises(UserError, match="NaN" if rank == 1 else "another process failed"):
        measure(
            broken,
            metrics,
            num_samples=50,
            batch_size=8,
            seed=0,
            device="cpu",
            rank=rank,
            world_size=world_size,
            quantise=lambda x: x,
        )
    data = Table(vectors(50) * (torch.nan if rank == 1 else 1))
    with pytest.raises(UserError, match="NaN" if rank == 1 else "another process failed"):
        reference_statistics(Linear(), data, cache_dir=folder / "broken", rank=rank, world_size=world_size)

    class Unreadable(Table):
        def fingerprint(self, split, limit=None):
            raise OSError("disk")

    with pytest.raises(UserError if rank else OSError, match="disk"):
        reference_statistics(Linear(), Unreadable(vectors(50)), rank=rank, world_size=world_size)


def worker(rank, folder):
    """Everything, in one process of eight: starting them takes far longer than what they do."""
    os.environ["LIGHTNING_GEN_CACHE"] = str(folder / "default")
    for world_size in WORLDS:
        if rank >= world_size:
            continue
        store = f"file://{folder}/store{world_size}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size)
        run(rank, world_size, folder)
        dist.barrier()
        dist.destroy_process_group()
    if rank < 3:
        write_often(folder / "concurrent")


def write_often(folder):
    """Fill one cache, as independent runs that start at the same time do."""
    warnings.simplefilter("error")
    for i in range(40):
        reference_statistics(Linear(seed=i % 2), Table(vectors(60, i % 2)), cache_dir=folder)
