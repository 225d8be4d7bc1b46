"""`metrics.csv` and `metrics.json` in a run's folder: what was measured when, and how."""

import csv
import json
from pathlib import Path
from typing import Any

from lightning_gen.files import replacing


def record(folder: Path, step: int, values: dict[str, float], protocols: dict[str, Any]) -> None:
    """Add what was measured at a step.

    Rows of later steps are dropped: a run that is resumed measures them again. Several evaluations of one step share
    its row; columns that a row lacks stay empty.

    Args:
        folder: the run's folder.
        step: at which the values were measured.
        values: by metric name.
        protocols: of these values, by metric name.
    """
    rows = [row for row in read(folder) if int(row["step"]) <= step]
    same = rows.pop() if rows and int(rows[-1]["step"]) == step else {"step": step}
    rows.append(same | values)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(folder / "metrics.csv") as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    path = folder / "metrics.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    with replacing(path) as partial:
        partial.write_text(json.dumps(known | protocols, indent=2) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of `metrics.csv`, as texts, oldest first; none if there is no such file."""
    path = folder / "metrics.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [dict(row) for row in csv.DictReader(file)]
