"""Sample a set once, and measure it by several metrics, in one process or many."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.distributed import raise_together, require_group
from lightning_gen.metrics.extractors import CHUNK, quantise_images
from lightning_gen.noise import sample_seeds

Batch = Mapping[str, Tensor]
"""`x` (B, ...) in stored form, perhaps `y` (B,) classes or (B, A) attributes, and `index` (B,) int64 positions in the
set, on the CPU."""

Sampler = Callable[[Tensor], Tensor | Batch]
"""Seeds (n,) int64 to n samples in the model's form, or to these as `x` with their classes as `y`."""


def measure(
    sampler: Sampler,
    metrics: Sequence[GenerativeMetric],
    *,
    num_samples: int,
    batch_size: int,
    seed: int,
    device: torch.device | str,
    rank: int = 0,
    world_size: int = 1,
    quantise: Callable[[Tensor], Tensor] = quantise_images,
) -> dict[str, float]:
    """The metrics of `num_samples` samples of a model, the same for any batch size and number of processes.

    Sample i belongs to process i mod `world_size` and is drawn from `sample_seeds(seed, i)`. Each extractor runs once
    on a sample, however many metrics use it. The global random state of torch, numpy and Python is left as it was.

    Args:
        sampler: seeds (n,) int64 on `device` to n samples in the model's form, (n, C, H, W) in [-1, 1] for images, or
            to a dict of these (`x`) and their classes (`y`).
        metrics: with distinct names, and references where they need one.
        num_samples: over all processes.
        batch_size: samples at a time in each process, ≥ 1.
        seed: of the set.
        device: where metrics and extractors compute.
        rank: of this process.
        world_size: number of processes; above 1 a process group must exist.
        quantise: the model's form to the stored form.

    Returns:
        Values by name, such as `fid_digits`, `is_digits`, `is_digits_std`; the same in every process.

    Raises:
        UserError: before sampling if the metrics cannot use the set; if a sample is not finite; if a process failed.
    """
    indices = torch.arange(num_samples)[rank::world_size].split(batch_size)
    drawn = (_draw(sampler, index, seed, device, quantise) for index in indices if len(index))
    with random_state_kept(torch.device(device)):
        return measure_batches(
            finite_batches(drawn), metrics, num_samples=num_samples, device=device, world_size=world_size
        )


def measure_batches(
    batches: Iterable[Batch],
    metrics: Sequence[GenerativeMetric],
    *,
    num_samples: int,
    device: torch.device | str,
    world_size: int = 1,
) -> dict[str, float]:
    """The metrics of samples that are there already.

    Args:
        batches: this process's share of the set, each sample once; see `Batch`.
        metrics: see `measure`.
        num_samples: over all processes.
        device: where metrics and extractors compute.
        world_size: number of processes; above 1 a process group must exist.

    Returns:
        Values by name; the same in every process.

    Raises:
        UserError: before the first batch if the metrics cannot use the set; if a process failed.
    """
    require_group(world_size)
    error = None
    with torch.no_grad():
        try:
            _begin(metrics, num_samples, device)
            for batch in batches:
                _update(metrics, batch)
            for metric in metrics:
                metric.flush()
        except Exception as failure:
            error = failure
    raise_together(error, world_size)
    values: dict[str, float] = {}
    for metric in metrics:
        with metric.sync_context(dist_sync_fn=metric.dist_sync_fn, should_sync=world_size > 1):
            values |= {name: float(value) for name, value in metric.checked_values().items()}
        metric.release()
    return values


def protocols(
    metrics: Sequence[GenerativeMetric], num_samples: int, seed: int | None, **more: Any
) -> dict[str, dict[str, Any]]:
    """What a reader needs beside each value, by its name; JSON-able.

    Args:
        metrics: as given to `measure`.
        num_samples: likewise.
        seed: likewise; None where samples were not drawn from one.
        more: further facts about the samples, such as `weights="ema"`.
    """
    found: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        how = {**metric.protocol(), "num_samples": num_samples, "seed": seed, **more}
        for name in how.get("values", [metric.name]):
            found[name] = how | {"higher_is_better": metric.directions.get(name, metric.higher_is_better)}
    return found


def _begin(metrics: Sequence[GenerativeMetric], num_samples: int, device: torch.device | str) -> None:
    names = [metric.name for metric in metrics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"metrics: {', '.join(twice)} is listed more than once")
    for metric in metrics:
        metric.require_reference()
        metric.extractor.prepare()
        metric.to(device)
        metric.begin(num_samples)


def _update(metrics: Sequence[GenerativeMetric], batch: Batch) -> None:
    features = {
        id(e): replace(e(batch["x"]), y=batch.get("y"))
        for e in {id(m.extractor): m.extractor for m in metrics}.values()
    }
    for metric in metrics:
        metric.update_features(features[id(metric.extractor)], batch["index"])


def _draw(
    sampler: Sampler, index: Tensor, seed: int, device: torch.device | str, quantise: Callable[[Tensor], Tensor]
) -> Batch:
    drawn = sampler(sample_seeds(seed, index).to(device))
    batch = {"x": drawn} if isinstance(drawn, Tensor) else dict(drawn)
    x = batch["x"]
    if len(x) != len(index):
        raise UserError(f"the sampler returned {len(x)} samples for {len(index)} seeds")
    finite = x.flatten(1).isfinite().all(dim=1) if x.is_floating_point() else x.new_ones(len(x), dtype=torch.bool)
    return batch | {"x": quantise(x), "index": index, "finite": finite}


def finite_batches(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, until a sample is not finite; looked at every so many samples, since to look waits for the device.

    Args:
        batches: with `finite` beside the rest, (B,) bool.

    Raises:
        UserError: naming the first such sample.
    """
    waiting: list[Batch] = []

    def look() -> None:
        if waiting and not bool((finite := torch.cat([batch["finite"] for batch in waiting])).all()):
            index = torch.cat([batch["index"] for batch in waiting])
            first = int(index[int((~finite).nonzero()[0])])
            raise UserError(f"sample {first} of the set holds NaN or infinite values")
        waiting.clear()

    for batch in batches:
        waiting.append({"finite": batch["finite"], "index": batch["index"]})
        if sum(len(each["index"]) for each in waiting) >= CHUNK:
            look()
        yield batch
    look()


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """The global random state of torch, numpy and Python stays: evaluating leaves the training after it the same."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global state is what is kept)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
