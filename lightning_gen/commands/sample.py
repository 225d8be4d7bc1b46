"""`lightning_gen sample`: files of samples from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_gen.callbacks.grid import grid as draw
from lightning_gen.callbacks.grid import save_picture
from lightning_gen.callbacks.walk import require_interpolation
from lightning_gen.callbacks.walk import walk as draw_walk
from lightning_gen.checkpoints import Weights, load
from lightning_gen.commands.evaluate import Part, optional
from lightning_gen.commands.processes import start
from lightning_gen.commands.sampling import Sampling
from lightning_gen.conditions import Attributes
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.metrics.distributed import from_rank_zero
from lightning_gen.model import GenerativeModel
from lightning_gen.noise import sample_seeds


def sample(
    ckpt_path: str,
    num: int,
    output: str,
    grid: bool,
    classes: str | None,
    attributes: str | None,
    walk: int,
    sampler: Part | None,
    guidance: Part | None,
    standing_statistics: int,
    seed: int,
    batch_size: int,
    weights: Weights,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
    allow: str,
    **_: Any,
) -> None:
    """Write samples 0 to `num` − 1 of the set `seed`, each process its share.

    Args:
        ckpt_path: a checkpoint that `fit` wrote.
        num: number of samples, ≥ 1.
        output: folder for them.
        grid: also write `grid.png`: the first of the set, or of a conditional model every class in a row of its own.
        classes: classes to draw, with commas, repeated in turn; None to draw each sample's class from its own noise.
        attributes: attributes to draw, with commas, a minus before those that are to be absent; None to draw all.
        walk: also write `walk.png`, so many ways from one sample to another; 0 for none.
        sampler: class name of a sampler, or `{class_path, init_args}`; None for the recipe's.
        guidance: the same of a guidance.
        standing_statistics: batches to renew running statistics from; 0 for none.
        seed: names the set; sample *i* depends on (seed, i) only.
        batch_size: samples drawn at a time in each process, ≥ 1.
        weights: `ema` (where there are averages) or `raw`.
        accelerator: as Lightning names them.
        devices: processes on this machine.
        num_nodes: machines.
        allow: packages that the checkpoint may name classes of, separated by commas.

    Raises:
        UserError: for anything wrong with these.
    """
    for name, value, least in (("num", num, 1), ("batch_size", batch_size, 1), ("walk", walk, 0)):
        if value < least:
            raise UserError(f"--{name} is {value}: it must be at least {least}")
    chosen = _classes(classes)
    model, data, loaded = load(ckpt_path, weights, allow)
    if attributes is not None:
        chosen = _attributes(model, attributes, classes)
    if walk:
        require_interpolation(model, "--walk")
    fabric = start(accelerator, devices, num_nodes)
    Sampling(optional(sampler), optional(guidance), standing_statistics).apply(model.to(fabric.device))
    folder = Path(output)
    from_rank_zero(lambda: _prepare(data, folder, num), fabric.world_size)
    index = torch.arange(fabric.global_rank, num, fabric.world_size)
    for rows in index.split(batch_size):
        y = chosen[rows % len(chosen)] if chosen is not None else None
        data.modality.write(folder, model.sample(len(rows), y, seeds=sample_seeds(seed, rows)).cpu(), rows, num)
    if fabric.is_global_zero and grid:
        shown = min(num, data.modality.picture_size)
        y = chosen[torch.arange(shown) % len(chosen)] if chosen is not None else None
        save_picture(draw(model, data, shown, seed, y), folder / "grid.png")
    if fabric.is_global_zero and walk > 0:
        y = chosen[torch.arange(walk) % len(chosen)] if chosen is not None else None
        save_picture(draw_walk(model, data, walk, 8, seed, y), folder / "walk.png")  # type: ignore[arg-type]
    fabric.barrier()
    if fabric.is_global_zero:
        print(
            f"{num} samples ({loaded} weights, seed {seed}) in {folder}"
            + (f", grid {folder / 'grid.png'}" if grid else "")
            + (f", walk {folder / 'walk.png'}" if walk else "")
        )


def _classes(text: str | None) -> Tensor | None:
    if text is None:
        return None
    words = text.strip("[] ").replace(",", " ").split()
    if not words:
        raise UserError("--classes is empty: name at least one class, or leave it out to draw all")
    try:
        return torch.tensor([int(word) for word in words])
    except ValueError:
        raise UserError(f"--classes is {text!r}: give the numbers of classes, such as 7 or 1,2") from None


def _attributes(model: GenerativeModel, attributes: str, classes: str | None) -> Tensor:
    """(1, K): the row that is asked for."""
    if classes is not None:
        raise UserError("--classes and --attributes are both given: a model is conditioned on one or the other")
    if not isinstance(model.condition, Attributes):
        raise UserError("--attributes was given, but the model is not conditioned on attributes: leave it out")
    return model.condition.wanted(attributes)[None]


def _prepare(data: DataModule, folder: Path, num: int) -> None:
    try:
        data.modality.prepare(folder, num, tuple(data.sample_shape))
    except OSError as error:
        raise UserError(f"--output {folder} cannot be written ({error.strerror}): choose another folder") from error
