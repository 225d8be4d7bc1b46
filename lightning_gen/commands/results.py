"""Results of `evaluate`: a table on the screen, JSON with the protocol, CSV and a curve; written as they come."""

import csv
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_gen import __version__
from lightning_gen.errors import UserError
from lightning_gen.files import replacing
from lightning_gen.metrics.blocks import STUDENT_95

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
"""What was measured (`checkpoint` or `samples`, `step`, `weights`, …), then values by name; `v_se` belongs to `v`."""

DESCRIPTION = ("checkpoint", "samples", "step", "weights", "sha256", "model_sha256", "neighbours")
"""Keys of a row that are not values."""
MISSING = "–"
"""What stands in place of a value that is not a number."""
_OF_A_CLASS = re.compile(r"_class\d+(_se)?$")
JACKKNIFE = "_jackknife"
SUFFIXES = ("_se", "_std", JACKKNIFE)
"""What a name ends in that says more about another value."""


class Results:
    """The rows of one protocol, in `<target>.json`, `.csv` and `.png`; those of an earlier run with it stay.

    Args:
        target: path without suffix.
        protocol: how each metric is measured, by its name.

    Raises:
        UserError: if the JSON file that is there cannot be read, or holds numbers of another protocol.
    """

    def __init__(self, target: Path, protocol: dict[str, Any]) -> None:
        self.target, self.protocol = target, json.loads(json.dumps(protocol))
        self.rows: list[Row] = []
        if (old := read_results(self.path("json"))) is not None:
            if old["protocol"] != self.protocol:
                raise UserError(
                    f"--output {target} holds numbers of another protocol"
                    f" ({differing(old['protocol'], self.protocol)}): choose another place"
                )
            self.rows = old["results"]

    def path(self, kind: str) -> Path:
        """The file of a kind ("json", "csv", "png")."""
        return self.target.with_name(f"{self.target.name}.{kind}")

    def find(self, **description: Any) -> Row | None:
        """The row that was measured already and has these values, if any."""
        return next((row for row in self.rows if all(row.get(k) == v for k, v in description.items())), None)

    def add(self, row: Row) -> Row:
        """Keep a row, in place of one that describes the same, and write the files but for the curve.

        Returns:
            The row as it is kept: with None where a value is not finite.
        """
        if (old := read_results(self.path("json"))) is not None and old["protocol"] == self.protocol:
            self.rows = old["results"]  # another job may have added some
        same = [k for k in ("checkpoint", "samples", "weights") if k in row]
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self.rows = [old for old in self.rows if any(old.get(k) != row[k] for k in same)] + [row]
        self.rows.sort(key=lambda r: (r.get("step", 0), str(r.get("checkpoint", r.get("samples")))))
        content = {"lightning_gen": __version__, "protocol": self.protocol, "best": self.best(), "results": self.rows}
        with replacing(self.path("json")) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n")
        names = list(dict.fromkeys(k for r in self.rows for k in r if k != "neighbours"))
        with replacing(self.path("csv")) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=names, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
        return row

    def best(self, rows: list[Row] | None = None) -> dict[str, Row]:
        """For each metric the row with its best value: what was measured, the value and its standard error.

        Args:
            rows: to choose from; None for all.
        """
        found = {}
        for name, how in self.protocol.items():
            if (row := best_of(self.rows if rows is None else rows, name, how.get("higher_is_better"))) is not None:
                kept = [k for k in (*DESCRIPTION[:4], name, f"{name}_jackknife", f"{name}_se") if k in row]
                found[name] = {k: row[k] for k in kept}
        return found

    def draw_neighbours(self, picture: "np.ndarray") -> Path:
        """Write pairs of samples and their nearest training samples, (H, W, 3) uint8."""
        from lightning_gen.callbacks.grid import save_picture

        path = self.target.with_name(f"{self.target.name}_neighbours.png")
        save_picture(picture, path)
        return path

    def draw(self) -> Path:
        """One panel a metric over steps, with the 95 % band; a line for each folder of checkpoints."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        names = [name for name in value_names(self.rows) if not name.endswith(SUFFIXES)]
        figure = Figure(figsize=(4.5 * len(names), 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            for folder, rows in by_run(self.rows).items():
                rows = [row for row in rows if row.get(name) is not None]
                steps, values = [row.get("step", 0) for row in rows], [row[name] for row in rows]
                (line,) = axes.plot(steps, values, marker="o", markersize=3, label=folder)
                bands = [interval(row, name) or (row[name], row[name]) for row in rows]
                low, high = zip(*bands, strict=True) if bands else ((), ())
                axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            axes.set_xlabel("step")
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
        if len(by_run(self.rows)) > 1:
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=7)
        with replacing(self.path("png")) as partial:
            figure.savefig(partial, dpi=120, format="png")
        return self.path("png")


def by_run(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows by the run they belong to: the folder of their checkpoints, with the weights if they vary; or samples."""
    found: dict[str, list[Row]] = {}
    vary = len({row.get("weights") for row in rows}) > 1
    for row in rows:
        if "checkpoint" in row:
            folder = Path(row["checkpoint"]).parent
            label = str(folder.parent if folder.name == "checkpoints" else folder)
            label += f" ({row.get('weights')} weights)" if vary else ""
        else:
            label = str(row["samples"])
        found.setdefault(label, []).append(row)
    return found


def value_names(rows: list[Row]) -> list[str]:
    """Names of the values, in their order; those of single classes are in the files only."""
    names = dict.fromkeys(name for row in rows for name in row if name not in DESCRIPTION)
    return [name for name in names if not _OF_A_CLASS.search(name)]


def table(rows: list[Row]) -> str:
    """Rows as text: values with half the width of their 95 % interval, where there is one."""
    names = [name for name in value_names(rows) if not name.endswith("_se")]
    head = [name for name in ("checkpoint", "samples", "step", "weights") if name in rows[0]]
    cells = [[*head, *names]]
    cells += [[*(str(row.get(k, "")) for k in head), *(number(row, name) for name in names)] for row in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def number(row: Row, name: str) -> str:
    """A value with its interval, both to the second significant digit of the latter: `19.62 ± 0.81`.

    Five significant digits where there is no interval.
    """
    value, half = row.get(name), half_width(row, name)
    if value is None:
        return MISSING
    return rounded(value, half) + (f" ± {rounded(half, half)}" if half else "")


def half_width(row: Row, name: str) -> float | None:
    """Half the width of the 95 % interval around a value, where there is one.

    Where there is a jackknife estimate, the interval is around that, not around the value, which is biased.
    """
    if f"{name}{JACKKNIFE}" in row:
        return None
    error = row.get(f"{name.removesuffix(JACKKNIFE)}_se")
    return None if error is None else STUDENT_95 * error


def interval(row: Row, name: str) -> tuple[float, float] | None:
    """The 95 % interval of what a value estimates, where there is one."""
    about = f"{name}{JACKKNIFE}" if f"{name}{JACKKNIFE}" in row else name
    centre, half = row.get(about), half_width(row, about)
    return None if centre is None or half is None else (centre - half, centre + half)


def rounded(value: float, half: float | None) -> str:
    """To the second significant digit of `half`, five digits without; never in powers of ten where it can be read."""
    if half:
        digits = 1 - math.floor(math.log10(half))
        # rounding may carry into another digit: 0.0996 is 0.100, two digits of which are 0.10
        digits = 1 - math.floor(math.log10(round(half, digits)))
        if digits <= 8:
            return f"{value:.{max(digits, 0)}f}"
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if 1e5 <= abs(value) < 1e9 else f"{value:.5g}"


def best_of(rows: list[Row], name: str, higher_is_better: bool | None) -> Row | None:
    """The row with the best value of a metric, None where there is no value or nothing is better."""
    rows = [row for row in rows if row.get(name) is not None]
    if not rows or higher_is_better is None:
        return None
    return (max if higher_is_better else min)(rows, key=lambda row: row[name])


def read_results(path: Path) -> dict[str, Any] | None:
    """What `evaluate` wrote to a JSON file, or None if there is none.

    Raises:
        UserError: if it holds something else.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content["protocol"], dict) or not isinstance(content["results"], list):
            raise ValueError("no results")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} holds no results of lightning_gen evaluate ({error}): choose another --output"
        ) from error
    return content


def output_path(output: str) -> Path:
    """The path without suffix that `--output` means, with or without one of a file that is written there."""
    path = Path(output)
    return path.with_suffix("") if path.suffix in (".json", ".csv", ".png") else path


def check_output(target: Path, flag: str = "--output") -> None:
    """Make sure that results can be written, before anything is measured.

    Args:
        target: path without suffix.
        flag: that named it, for messages.

    Raises:
        UserError: if they cannot.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target.with_name(f".{target.name}.probe"), contended=True) as partial:
            partial.touch()
        target.with_name(f".{target.name}.probe").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {target} cannot be written ({error.strerror}): choose another place") from error


def free_target(target: Path, protocol: dict[str, Any]) -> Path:
    """`target`, or with a number behind it where it holds an evaluation of another protocol."""
    candidate, number = target, 1
    while (old := read_results(candidate.with_name(f"{candidate.name}.json"))) is not None:
        if old["protocol"] == json.loads(json.dumps(protocol)):
            break
        candidate, number = target.with_name(f"{target.name}_{number}"), number + 1
    return candidate


def differing(first: Any, second: Any, name: str = "") -> str:
    """Where two protocols differ, such as `fid_digits.num_samples 500, not 1000`."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = [key for key in {**first, **second} if first.get(key) != second.get(key)]
        return "; ".join(differing(first.get(key), second.get(key), f"{name}.{key}".lstrip(".")) for key in keys[:3])
    return f"{name} {_short(first)}, not {_short(second)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
