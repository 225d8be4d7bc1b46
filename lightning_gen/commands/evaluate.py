"""`lightning_gen evaluate`: a table, JSON, CSV and a curve of metrics over checkpoints."""

import csv
import glob
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric import Fabric

from lightning_gen import __version__
from lightning_gen.callbacks import Evaluation
from lightning_gen.callbacks.evaluation import cache_folder
from lightning_gen.checkpoints import Weights, configuration, instantiate, load_state, read_checkpoint
from lightning_gen.commands.processes import start
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.metrics.distributed import from_rank_zero
from lightning_gen.model import GenerativeModel


def evaluate(
    ckpt_path: str,
    num_samples: int | None,
    output: str | None,
    extractor: str | None,
    metrics: list[str] | None,
    config: str | None,
    seed: int | None,
    batch_size: int | None,
    weights: Weights,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
    allow: str,
    **_: Any,
) -> None:
    """Measure every checkpoint that `ckpt_path` matches, in order of its step.

    Args:
        ckpt_path: a file, or a pattern of files.
        num_samples: samples to draw; None for the recipe's number.
        output: results go to this path with `.json`, `.csv` and `.png`; None for `evaluation` in the run's folder.
        extractor: class name of a feature extractor; None for the recipe's.
        metrics: class names of metrics; None for the recipe's.
        config: YAML file laid over the checkpoint's configuration.
        seed: names the set of samples; None for the recipe's.
        batch_size: samples drawn at a time; None for the recipe's.
        weights: `ema` (where there are averages) or `raw`.
        accelerator: as Lightning names them.
        devices: processes on this machine.
        num_nodes: machines.
        allow: packages that the checkpoint may name classes of, separated by commas.

    Raises:
        UserError: for anything wrong with these.
    """
    paths = [Path(path) for path in glob.glob(ckpt_path, recursive=True)]
    if not paths:
        raise UserError(
            f"--ckpt_path {ckpt_path!r} matches no file: give a checkpoint, or a quoted pattern of checkpoints"
        )
    target = Path(output).with_suffix("") if output else _default_output(sorted(paths))
    _check_output(target)
    chosen = {"num_samples": num_samples, "seed": seed, "batch_size": batch_size}
    changes: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
    if extractor is not None:
        changes["extractor"] = {"class_path": extractor}
    if metrics is not None:
        changes["metrics"] = [{"class_path": metric} for metric in metrics]
    fabric = start(accelerator, devices, num_nodes)
    candidates = sorted(
        (_candidate(path, allow, config, changes) for path in paths), key=lambda c: (c.step, str(c.path))
    )
    same = {(c.path.parent, c.step) for c in candidates if c.path.name != "last.ckpt"}
    candidates = [c for c in candidates if c.path.name != "last.ckpt" or (c.path.parent, c.step) not in same]
    benches = _benches(candidates, fabric)
    rows: list[dict[str, Any]] = []
    for candidate in candidates:
        model = instantiate(GenerativeModel, candidate.model)
        loaded = load_state(model, read_checkpoint(candidate.path, mmap=True), weights)
        data, evaluations = benches[candidate.bench]
        row: dict[str, Any] = {"checkpoint": str(candidate.path), "step": candidate.step, "weights": loaded}
        for evaluation in evaluations:
            row |= evaluation.measure(model.to(fabric.device).eval(), data, fabric.global_rank, fabric.world_size)
        rows.append(row)
    if fabric.is_global_zero:
        print(_table(rows))
        protocol = _protocol(benches[candidates[0].bench][1])
        _write(target if output else _free(target, rows, protocol), rows, protocol)


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint to measure, and on what."""

    path: Path
    step: int
    model: dict[str, Any]
    bench: str
    """The settings of its data and evaluations, as JSON; checkpoints that share them share the work."""


_Bench = tuple[DataModule, list[Evaluation]]


def _candidate(path: Path, allow: str, config: str | None, changes: dict[str, Any]) -> _Candidate:
    checkpoint = read_checkpoint(path, mmap=True)
    settings = _lay_over(configuration(checkpoint, path, allow), config)
    bench = {"data": settings["data"], "evaluations": _evaluations(settings, changes)}
    return _Candidate(path, checkpoint.get("global_step", 0), settings["model"], json.dumps(bench, sort_keys=True))


def _evaluations(settings: dict[str, Any], changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Arguments of the recipe's evaluations with what the command line changes; of a plain one if it has none."""
    trainer = settings.get("trainer") or {}
    own = [
        callback["init_args"]
        for callback in trainer.get("callbacks") or []
        if callback["class_path"].rsplit(".", 1)[-1] == Evaluation.__name__
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
    return [
        below | {key: value for key, value in arguments.items() if value is not None} | changes for arguments in own
    ]


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
        if _protocol(evaluations) != _protocol(benches[first.bench][1]):
            raise UserError(
                f"{first.path} and {candidate.path} are measured differently (data, metrics or their settings), so"
                " their numbers cannot be compared: evaluate them apart"
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

    def merge(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            return below | {key: merge(below.get(key), value) for key, value in above.items()}
        return above

    return merge(settings, over)


def _default_output(paths: list[Path]) -> Path:
    folder = paths[0].parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "evaluation"


def _free(target: Path, rows: list[dict[str, Any]], protocol: dict[str, Any]) -> Path:
    """`target`, or with a number behind it where it holds an evaluation of other checkpoints or another protocol."""
    what = [row["checkpoint"] for row in rows], protocol
    candidate, number = target, 1
    while (path := candidate.with_name(f"{candidate.name}.json")).exists():
        old = json.loads(path.read_text())
        if ([row["checkpoint"] for row in old["results"]], old["protocol"]) == what:
            break
        candidate, number = target.with_name(f"{target.name}_{number}"), number + 1
    return candidate


def _check_output(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        probe = target.with_suffix(".json.tmp")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output {target} cannot be written ({error.strerror}): choose another place") from error


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([f"{v:.4f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _write(target: Path, rows: list[dict[str, Any]], protocol: dict[str, Any]) -> None:
    json_path, csv_path, png_path = (target.with_name(f"{target.name}.{kind}") for kind in ("json", "csv", "png"))
    json_path.write_text(
        json.dumps({"lightning_gen": __version__, "protocol": protocol, "results": rows}, indent=2) + "\n"
    )
    with csv_path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _draw(png_path, rows)
    print(f"\n{json_path}\n{csv_path}\n{png_path}")


def _draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """One panel a metric over steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in rows[0] if name not in ("checkpoint", "step", "weights") and not name.endswith("_std")]
    figure = Figure(figsize=(4.5 * len(names), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], marker="o")
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
