"""`lightning_gen evaluate --ckpt_path`: metrics over checkpoints, resumed where an earlier sweep stopped."""

import glob
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric import Fabric

from lightning_gen.callbacks import Evaluation
from lightning_gen.callbacks.evaluation import cache_folder
from lightning_gen.checkpoints import Weights, configuration, instantiate, load_state, read_checkpoint
from lightning_gen.commands.pictures import neighbour_pairs, sample_grid
from lightning_gen.commands.processes import start
from lightning_gen.commands.results import (
    JACKKNIFE,
    Results,
    Row,
    best_of,
    by_run,
    check_output,
    differing,
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
    candidates = _in_order([_candidate(path, allow, config, changes, memorisation, sampling) for path in paths])
    benches = _benches(candidates, fabric)
    asked = sampling.protocol()
    protocol = {name: how | asked for name, how in _protocol(benches[candidates[0].bench][1]).items()}
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


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint to measure, and on what."""

    path: Path
    step: int
    model: dict[str, Any]
    model_sha256: str
    """Of the model's configuration, which --config may have changed, and of how it is sampled."""
    bench: str
    """The settings of its data and evaluations, as JSON; checkpoints that share them share the work."""
    sampling: Sampling
    """How it is sampled."""


_Bench = tuple[DataModule, list[Evaluation]]


def _candidate(
    path: Path, allow: str, config: str | None, changes: dict[str, Any], memorisation: bool, sampling: Sampling
) -> _Candidate:
    checkpoint = read_checkpoint(path, mmap=True)
    settings = _lay_over(configuration(checkpoint, path, allow), config)
    bench = {"data": settings["data"], "evaluations": _evaluations(settings, changes, memorisation)}
    asked = {"sampling": sampling.protocol()} if sampling.protocol() else {}
    model = hashlib.sha256(json.dumps(settings["model"] | asked, sort_keys=True).encode()).hexdigest()
    bench_settings = json.dumps(bench, sort_keys=True)
    return _Candidate(path, checkpoint.get("global_step", 0), settings["model"], model, bench_settings, sampling)


def _in_order(candidates: list[_Candidate]) -> list[_Candidate]:
    """By step; without a `last.ckpt` beside another checkpoint of its step."""
    same = {(c.path.parent, c.step) for c in candidates if c.path.name != "last.ckpt"}
    kept = [c for c in candidates if c.path.name != "last.ckpt" or (c.path.parent, c.step) not in same]
    return sorted(kept, key=lambda c: (c.step, str(c.path)))


def _measure(
    candidate: _Candidate,
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


def _load(candidate: _Candidate, weights: Weights, device: torch.device) -> tuple[GenerativeModel, Weights]:
    model: GenerativeModel = instantiate(GenerativeModel, candidate.model)
    loaded = load_state(model, read_checkpoint(candidate.path, mmap=True), weights)
    candidate.sampling.apply(model.eval().to(device))
    return model, loaded


def _finish(
    rows: list[Row],
    candidates: dict[str, _Candidate],
    benches: dict[str, _Bench],
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


def _evaluations(settings: dict[str, Any], changes: dict[str, Any], memorisation: bool) -> list[dict[str, Any]]:
    """Arguments of the recipe's evaluations with what the command line changes; of a plain one if it has none."""
    trainer = settings.get("trainer") or {}
    own = [
        callback["init_args"] for callback in trainer.get("callbacks") or [] if _names(callback, Evaluation.__name__)
    ]
    if not own and "extractor" not in changes:
        raise UserError(
            "the recipe of this checkpoint has no Evaluation callback: name an --extractor, such as InceptionV3"
        )
    root = trainer.get("default_root_dir")
    below = {"cache_dir": cache_folder(root)} if root and Path(root).is_dir() else {}
    plain = {"metrics": [{"class_path": "FID"}]}
    if not own or "extractor" in changes or "metrics" in changes:  # one list of metrics on one extractor
        own = [*own, plain][:1]
    found = [
        below | {key: value for key, value in arguments.items() if value is not None} | changes for arguments in own
    ]
    # rows of another reference are not those that were trained on
    asked = memorisation and "reference" not in changes
    if asked and not any(_names(metric, "Memorisation") for each in found for metric in each["metrics"]):
        found[0] = found[0] | {"metrics": [*found[0]["metrics"], {"class_path": "Memorisation"}]}
    return found


def _names(part: Any, name: str) -> bool:
    """Whether a class in a configuration, with its arguments or not, is `name`."""
    path = part["class_path"] if isinstance(part, dict) else part
    return str(path).rsplit(".", 1)[-1] == name


def _benches(candidates: list[_Candidate], fabric: Fabric) -> dict[str, _Bench]:
    """Set up what the checkpoints need, and see that their numbers can stand in one table."""
    benches: dict[str, _Bench] = {}
    first = candidates[0]
    for candidate in candidates:
        if candidate.bench in benches:
            continue
        settings = json.loads(candidate.bench)
        data = instantiate(DataModule, settings["data"])
        from_rank_zero(data.prepare_data, fabric.world_size)
        evaluations = [
            instantiate(Evaluation, {"class_path": "lightning_gen.callbacks.Evaluation", "init_args": arguments})
            for arguments in settings["evaluations"]
        ]
        for evaluation in evaluations:
            evaluation.prepare(data, fabric.device, fabric.global_rank, fabric.world_size)
        benches[candidate.bench] = data, evaluations
        if (other := _protocol(evaluations)) != (own := _protocol(benches[first.bench][1])):
            raise UserError(
                f"{first.path} and {candidate.path} are measured differently ({differing(own, other)}), so their"
                " numbers cannot be compared: evaluate them apart"
            )
    return benches


def _protocol(evaluations: list[Evaluation]) -> dict[str, Any]:
    return {name: how for evaluation in evaluations for name, how in evaluation.protocol().items()}


def _lay_over(settings: dict[str, Any], config: str | None) -> dict[str, Any]:
    """`settings` with the values of a YAML file in place of its own."""
    if config is None:
        return settings
    try:
        over = yaml.safe_load(Path(config).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"--config {config} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(over, dict):
        raise UserError(f"--config {config} holds no settings: give keys such as data, with what replaces their values")

    for key in over:
        if key not in ("model", "data", "trainer"):
            raise UserError(
                f"--config {config}: {key!r} is no key of a recipe that evaluate uses: use model, data or trainer"
            )

    def merge(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            return below | {key: merge(below.get(key), value) for key, value in above.items()}
        return above

    return merge(settings, over)


def _default_output(paths: list[Path]) -> Path:
    folder = paths[0].parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "evaluation"
