"""Read the rows of a split once, and measure them by several metrics, in one process or many."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.distributed import from_rank_zero, raise_together, require_group
from lightning_gen.metrics.engine import random_state_kept
from lightning_gen.metrics.held_out.base import HeldOutMetric, HeldOutRows

if TYPE_CHECKING:
    from lightning_gen.data import DataModule
    from lightning_gen.model import GenerativeModel


def measure_held_out(
    model: "GenerativeModel",
    data: "DataModule",
    metrics: Sequence[HeldOutMetric],
    *,
    split: str,
    num_rows: int | None = None,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, float]:
    """The metrics of the rows of a split, the same for any batch size and number of processes up to rounding.

    Process r has the rows r, r + `world_size`, …; nothing is padded. Row i has the noise of `sample_seeds(seed, i)`.
    The global random state of torch, numpy and Python is left as it was.

    Args:
        model: on its device, with whatever weights it holds now.
        data: where the rows are.
        metrics: whose values have distinct names.
        split: of the data.
        num_rows: only the first so many rows, over all processes; None for all.
        batch_size: rows at a time in each process, ≥ 1.
        seed: of the noise.
        rank: of this process.
        world_size: number of processes; above 1 a process group must exist.

    Returns:
        Values by name, each followed by what belongs to it; the same in every process.

    Raises:
        UserError: if the metrics cannot be about the model or the data; if a process failed.
    """
    require_group(world_size)
    error = None
    with random_state_kept(model.device):
        try:
            count = rows_of(data, split, num_rows)
            _begin(model, data, metrics, split, count, seed)
            for batch in data.rows(split, rank, world_size, batch_size, count):
                rows = in_model_form(model, data, batch, seed)
                for metric in metrics:
                    metric.update(rows)
        except Exception as failure:
            error = failure
        raise_together(error, world_size)
        values: dict[str, float] = {}
        for metric in metrics:
            states = metric.reduced(world_size)
            values |= from_rank_zero(partial(metric.values, states), world_size)
    return values


def in_model_form(model: "GenerativeModel", data: "DataModule", batch: Mapping[str, Tensor], seed: int) -> HeldOutRows:
    """A batch of `data.rows`, on the device of the model and as it takes them."""
    on_device = {name: value.to(model.device) for name, value in batch.items()}
    ready = data.on_after_batch_transfer(on_device, 0)
    ready = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in ready.items()}
    return HeldOutRows(model, ready["x"], model.condition_of(ready), on_device["index"], seed)


def protocols_of(
    metrics: Sequence[HeldOutMetric],
    model: "GenerativeModel",
    data: "DataModule",
    *,
    split: str,
    num_rows: int | None,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """What a reader needs beside each value, by its name; JSON-able. Arguments as of `measure_held_out`."""
    rows = {
        "split": split,
        "limit": num_rows,
        "fingerprint": data.fingerprint(split, num_rows),
        "num": rows_of(data, split, num_rows),
    }
    found: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        how = {**metric.protocol(model, data), "seed": seed, "rows": rows}
        for name, higher_is_better in metric.directions.items():
            found[name] = how | {"higher_is_better": higher_is_better}
    return found


def rows_of(data: "DataModule", split: str, num_rows: int | None) -> int:
    """How many rows of a split are measured."""
    there = len(data.split(split))
    return there if num_rows is None else min(num_rows, there)


def _begin(
    model: "GenerativeModel",
    data: "DataModule",
    metrics: Sequence[HeldOutMetric],
    split: str,
    num_rows: int,
    seed: int,
) -> None:
    names = [name for metric in metrics for name in metric.directions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"held_out: {', '.join(twice)} is listed more than once")
    if not num_rows:
        raise UserError(f"split {split!r} has no rows to measure")
    for metric in metrics:
        metric.check(model, data)
    # every process reads it: one without rows must know the shapes of what it adds zeros to
    index = torch.zeros(1, dtype=torch.int64)
    first = in_model_form(model, data, {**data.split(split)[index], "index": index}, seed)
    for metric in metrics:
        metric.begin(first, data, split, num_rows)
