"""`lightning_gen evaluate --ckpt_path`: metrics over checkpoints, resumed where an earlier sweep stopped."""

import glob
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from lightning_gen.callbacks import Evaluation
from lightning_gen.checkpoints import Weights, instantiate, load_state, read_checkpoint
from lightning_gen.commands.benches import Bench, Candidate, benches_of, candidate_of
from lightning_gen.commands.pictures import neighbour_pairs, sample_grid
from lightning_gen.commands.processes import start
from lightning_gen.commands.results import (
    JACKKNIFE,
    Results,
    Row,
    best_of,
    by_run,
    check_output,
    free_target,
    number,
    output_path,
    table,
)
from lightning_gen.commands.sampling import Sampling
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.files import file_sha256
from lightning_gen.metrics import Memorisation
from lightning_gen.metrics.distributed import from_rank_zero, together
from lightning_gen.model import GenerativeModel


def sweep(
    ckpt_path: str,
    changes: dict[str, Any],
    output: str | None,
    config: str | None,
    weights: Weights,
    memorisation: bool,
    report: str | None,
    sampling: Sampling,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
    allow: str,
) -> None:
    """Measure every checkpoint that `ckpt_path` matches, in order of its step; those measured already are not again.

    Args:
        ckpt_path: a file, or a pattern of files.
        changes: arguments of `Evaluation` in place of the recipe's.
        output: results go to this path with `.json`, `.csv` and `.png`; None for `evaluation` in the run's folder.
        config: YAML file laid over the checkpoint's configuration.
        weights: `ema` (where there are averages) or `raw`.
        memorisation: also look for copies of training samples.
        report: folder for a page that compares the runs; None for none.
        sampling: how samples are drawn.
        accelerator: as Lightning names them.
        devices: processes on this machine.
        num_nodes: machines.
        allow: packages that the checkpoint may name classes of, separated by commas.

    Raises:
        UserError: for anything wrong with these.
    """
    _find(ckpt_path)
    fabric = start(accelerator, devices, num_nodes)
    paths = from_rank_zero(lambda: _find(ckpt_path), fabric.world_size)  # a run may go on writing some
    target = output_path(output) if output else _default_output(paths)
    from_rank_zero(lambda: check_output(target), fabric.world_size)
    candidates = _in_order([candidate_of(path, allow, config, changes, memorisation, sampling) for path in paths])
    benches, protocol = benches_of(candidates, fabric)
    asked = sampling.protocol()
    protocol = {name: how | asked for name, how in protocol.items()}
    results = from_rank_zero(
        lambda: Results(target if output else free_target(target, protocol), protocol), fabric.world_size
    )
    if report:
        from_rank_zero(lambda: check_output(Path(report) / "index", "--report"), fabric.world_size)
    rows: list[Row] = []
    failures: list[str] = []
    for candidate in candidates:
        try:  # what is wrong with one checkpoint is told to all processes, so all of them go on
            rows.append(_measure(candidate, *benches[candidate.bench], weights, results, fabric))
            told = "measured"
        except UserError as error:
            failures.append(f"{candidate.path} could not be measured: {error}")
            told = "failed"
        if fabric.is_global_zero and len(candidates) > 1:
            print(f"{len(rows) + len(failures)}/{len(candidates)} {candidate.path} {told}", file=sys.stderr)
    if rows and fabric.is_global_zero:
        _finish(rows, {str(c.path): c for c in candidates}, benches, results, report, fabric)
    if failures:
        raise UserError("; ".join(failures))


def _find(ckpt_path: str) -> list[Path]:
    if Path(ckpt_path).is_dir():
        raise UserError(f"--ckpt_path {ckpt_path} is a folder: give a checkpoint, or the pattern '{ckpt_path}/*.ckpt'")
    paths = sorted(Path(path) for path in glob.glob(ckpt_path, recursive=True))
    if not paths:
        raise UserError(
            f"--ckpt_path {ckpt_path!r} matches no file: give a checkpoint, or a quoted pattern of checkpoints"
        )
    return paths


def _in_order(candidates: list[Candidate]) -> list[Candidate]:
    """By step; without a `last.ckpt` beside another checkpoint of its step."""
    same = {(c.path.parent, c.step) for c in candidates if c.path.name != "last.ckpt"}
    kept = [c for c in candidates if c.path.name != "last.ckpt" or (c.path.parent, c.step) not in same]
    return sorted(kept, key=lambda c: (c.step, str(c.path)))


def _measure(
    candidate: Candidate,
    data: DataModule,
    evaluations: list[Evaluation],
    weights: Weights,
    results: Results,
    fabric: Fabric,
) -> Row:
    """The row of a checkpoint, measured unless an earlier sweep did."""
    content = from_rank_zero(lambda: file_sha256(candidate.path), fabric.world_size)
    model, loaded = together(lambda: _load(candidate, weights, fabric.device), fabric.world_size)
    row: Row = {"checkpoint": str(candidate.path), "step": candidate.step, "weights": loaded, "sha256": content}
    row["model_sha256"] = candidate.model_sha256
    # rank zero decides: it alone reads what another job may have added meanwhile
    if (known := from_rank_zero(lambda: results.find(**row), fabric.world_size)) is not None:
        return known
    for evaluation in evaluations:
        row |= evaluation.measure(model, data, fabric.global_rank, fabric.world_size)
        row |= evaluation.details()
    return results.add(row) if fabric.is_global_zero else row


def _load(candidate: Candidate, weights: Weights, device: torch.device) -> tuple[GenerativeModel, Weights]:
    model: GenerativeModel = instantiate(GenerativeModel, candidate.model)
    loaded = load_state(model, read_checkpoint(candidate.path, mmap=True), weights)
    candidate.sampling.apply(model.eval().to(device))
    return model, loaded


def _finish(
    rows: list[Row],
    candidates: dict[str, Candidate],
    benches: dict[str, Bench],
    results: Results,
    report: str | None,
    fabric: Fabric,
) -> None:
    """Print the table and name the best, draw the curve and the nearest training images, write the report."""
    from lightning_gen.commands.report import Entry, write_report

    print(table(rows))
    best_rows = results.best(rows)
    for name, best in best_rows.items() if len(rows) > 1 else ():
        about = f", jackknife {number(best, name + JACKKNIFE)}" if name + JACKKNIFE in best else ""
        print(f"best {name}: {number(best, name)}{about} at step {best['step']} ({best['checkpoint']})")
    written = [results.path("json"), results.path("csv"), results.draw()]
    entries = []
    for label, run in by_run(rows).items():
        first, how = next(iter(results.protocol.items()))
        row = best_of(run, first, how["higher_is_better"]) or run[-1]
        candidate = candidates[row["checkpoint"]]
        data, evaluations = benches[candidate.bench]
        looked = [e for e in evaluations if any(isinstance(metric, Memorisation) for metric in e.metrics)]
        evaluation = (looked or evaluations)[0]
        model = _load(candidate, row["weights"], fabric.device)[0]
        near = row.get("neighbours") if evaluation.reference is None else None  # else they are no rows of the data
        pairs = neighbour_pairs(model, data, near, evaluation.seed)
        grid = sample_grid(model, data, evaluation.seed) if report else None
        entries.append(Entry(label, run, grid, pairs, f"checkpoint {row['checkpoint']}, step {row['step']}"))
    if len(entries) == 1 and entries[0].neighbours is not None:
        written.append(results.draw_neighbours(entries[0].neighbours))
    if report:
        written.append(write_report(Path(report), entries, results.protocol, best_rows, evaluation.seed))
    print("\n" + "\n".join(map(str, written)))


def _default_output(paths: list[Path]) -> Path:
    folder = paths[0].parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "evaluation"
