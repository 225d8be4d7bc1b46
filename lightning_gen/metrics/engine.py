"""Sample a set once, and measure it by several metrics, in one process or many."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.distributed import raise_together, require_group
from lightning_gen.metrics.extractors import quantise_images
from lightning_gen.noise import sample_seeds

Sampler = Callable[[Tensor], Tensor]


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
    """The metrics of `num_samples` samples, the same for any batch size and number of processes.

    Sample i belongs to process i mod `world_size` and is drawn from `sample_seeds(seed, i)`. Each extractor runs once
    on a sample, however many metrics use it. The global random state of torch, numpy and Python is left as it was.

    Args:
        sampler: seeds (n,) int64 on `device` to n samples in the model's form, (n, C, H, W) in [-1, 1] for images.
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
    require_group(world_size)
    error = None
    with _random_state_kept(torch.device(device)), torch.no_grad():
        try:
            _begin(metrics, num_samples, device)
            for index in torch.arange(num_samples)[rank::world_size].split(batch_size):
                if len(index):
                    samples = sampler(sample_seeds(seed, index).to(device))
                    _update(metrics, quantise(_finite(samples, index)), index)
        except Exception as failure:
            error = failure
    raise_together(error, world_size)
    values: dict[str, float] = {}
    for metric in metrics:
        with metric.sync_context(dist_sync_fn=metric.dist_sync_fn, should_sync=world_size > 1):
            values |= {name: float(value) for name, value in metric.checked_values().items()}
    return values


def protocols(
    metrics: Sequence[GenerativeMetric], num_samples: int, seed: int, **more: Any
) -> dict[str, dict[str, Any]]:
    """What a reader needs beside each value, by the metric's name; JSON-able.

    Args:
        metrics: as given to `measure`.
        num_samples: likewise.
        seed: likewise.
        more: further facts about the samples, such as `weights="ema"`.
    """
    return {m.name: {**m.protocol(), "num_samples": num_samples, "seed": seed, **more} for m in metrics}


def _begin(metrics: Sequence[GenerativeMetric], num_samples: int, device: torch.device | str) -> None:
    names = [metric.name for metric in metrics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"metrics: {', '.join(twice)} is listed more than once")
    for metric in metrics:
        if metric.needs_reference and getattr(metric, "reference", None) is None:
            raise UserError(f"{metric.name} has no reference: call its fit_reference before measuring")
        metric.extractor.prepare()
        metric.to(device)
        metric.begin(num_samples)


def _update(metrics: Sequence[GenerativeMetric], x: Tensor, index: Tensor) -> None:
    features = {id(e): e(x) for e in {id(m.extractor): m.extractor for m in metrics}.values()}
    for metric in metrics:
        metric.update_features(features[id(metric.extractor)], index)


def _finite(samples: Tensor, index: Tensor) -> Tensor:
    if len(samples) != len(index):
        raise UserError(f"the sampler returned {len(samples)} samples for {len(index)} seeds")
    if samples.is_floating_point():
        bad = (~samples.flatten(1).isfinite().all(dim=1)).nonzero()
        if len(bad):
            raise UserError(f"sample {int(index[int(bad[0])])} of the set holds NaN or infinite values")
    return samples


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    """Evaluating, or not, leaves the training after it the same."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (the global state is what is kept)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
