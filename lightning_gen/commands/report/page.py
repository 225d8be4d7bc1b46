"""The page that compares runs: tables, curves, samples and the protocol, in one file that asks nothing of a network."""

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from lightning_gen import __version__
from lightning_gen.commands.report.curves import charts
from lightning_gen.commands.report.facts import facts_of
from lightning_gen.commands.report.tables import Cell, Column, cells, cleaned, columns_of, short_labels
from lightning_gen.commands.results import Row, by_run, number
from lightning_gen.files import replacing

if TYPE_CHECKING:
    import numpy as np

SMALL = 320
"""Pictures narrower than this are shown larger, by whole factors."""


@dataclass(frozen=True)
class Entry:
    """A run in the report.

    Args:
        label: the run's folder, or the path of samples.
        rows: what was measured of it, by step.
        grid: samples of its best checkpoint, (H, W, 3) uint8, of the same seeds in every entry; None for none.
        neighbours: pairs of a sample and the sample of the data nearest to it, (H, W, 3) uint8; None for none.
        neighbours_note: what else is known of the pairs, such as their distances.
    """

    label: str
    rows: list[Row]
    grid: "np.ndarray | None"
    neighbours: "np.ndarray | None"
    neighbours_note: str = ""


@dataclass(frozen=True)
class _Line:
    """A row of a table: of which run, what was measured, and its values."""

    run: int
    row: Row
    cells: list[Cell]

    @property
    def source(self) -> str:
        """The file or folder that was measured."""
        return str(self.row.get("checkpoint", self.row.get("samples", "")))


@dataclass(frozen=True)
class _Picture:
    """A picture as `<img>` needs it, of run `run`."""

    run: int
    url: str
    width: int
    height: int
    enlarged: bool
    note: str


def write_report(
    folder: Path,
    entries: list[Entry],
    protocol: dict[str, Any],
    best: dict[str, Row],
    seed: int | None,
) -> Path:
    """Write the page that compares runs; one that is there is replaced.

    Args:
        folder: is made.
        entries: the runs, in the order in which they are shown.
        protocol: how each metric is measured, by its name; by the first one the best checkpoint of a run is chosen.
        best: for each metric the row with its best value.
        seed: of the set that samples are shown of; None where they were not drawn from one.

    Returns:
        `folder`/index.html, which opens in a browser without a server and without a network.

    Raises:
        OSError: if it cannot be written.
    """
    path = folder / "index.html"
    # a path may hold bytes that are no text
    text = _page(entries, protocol, best, seed).encode("utf-8", errors="backslashreplace")
    with replacing(path) as partial:
        partial.write_bytes(text)
    return path


def _page(entries: list[Entry], protocol: dict[str, Any], best: dict[str, Row], seed: int | None) -> str:
    environment = Environment(
        loader=PackageLoader("lightning_gen.commands.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "breakable": _breakable}
    runs = [cleaned(entry.rows) for entry in entries]
    columns = columns_of([row for rows in runs for row in rows], protocol)
    shared_folder, labels = short_labels([entry.label for entry in entries])
    chosen = _compare(runs, columns, protocol)
    everything = [(run, row) for run, rows in enumerate(runs) for row in rows]
    script, style = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return environment.get_template("page.html").render(
        title=f"Evaluation of {entries[0].label}" if len(entries) == 1 else f"Evaluation of {len(entries)} runs",
        version=__version__,
        time=datetime.now(UTC),
        seed=seed,
        labels=labels,
        shared_folder=shared_folder,
        columns=columns,
        best=_best(best, columns, entries, labels),
        comparison=_lines(chosen, columns),
        first=next((column for column in columns if column.name in protocol), None),
        everything=_lines(everything, columns) if len(everything) > len(chosen) else [],
        charts=charts(runs, columns),
        grids=[_picture(i, entry.grid) for i, entry in enumerate(entries) if entry.grid is not None],
        neighbours=[
            _picture(i, entry.neighbours, entry.neighbours_note)
            for i, entry in enumerate(entries)
            if entry.neighbours is not None
        ],
        protocol=facts_of(protocol),
        protocol_json=json.dumps(protocol, indent=2),
        rows_json=json.dumps([row for rows in runs for row in rows], indent=2),
        has_steps=any("step" in row for _, row in everything),
        has_errors=any(name.endswith("_se") for _, row in everything for name in row),
        has_bias=any(name.endswith("_jackknife") for _, row in everything for name in row),
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _breakable(text: str) -> Markup:
    """Text that may go on in another line after each part of a path."""
    return Markup(re.sub(r"(?<=/)(?=\w)|(?<=[_=-])(?=[^\W\d])", "<wbr>", str(escape(text))))


def _compare(runs: list[list[Row]], columns: list[Column], protocol: dict[str, Any]) -> list[tuple[int, Row]]:
    """Each run with its best row by the first metric, its last where that says nothing; the best run first."""
    first = next((column for column in columns if column.name in protocol), Column("", None))
    chosen = [(run, first.best(rows) or rows[-1]) for run, rows in enumerate(runs) if rows]
    if first.higher_is_better is None:
        return chosen
    sign = -1.0 if first.higher_is_better else 1.0
    values = [row.get(first.name) for _, row in chosen]
    order = sorted(range(len(chosen)), key=lambda i: (values[i] is None, sign * (values[i] or 0.0)))
    return [chosen[i] for i in order]


def _lines(rows: list[tuple[int, Row]], columns: list[Column]) -> list[_Line]:
    by_column = [cells([row for _, row in rows], column) for column in columns]
    return [_Line(run, row, [column[i] for column in by_column]) for i, (run, row) in enumerate(rows)]


def _best(
    best: dict[str, Row], columns: list[Column], entries: list[Entry], labels: list[str]
) -> list[tuple[Column, Row, str]]:
    """The metrics that have a best value, its row, and its run as the page names it."""
    short = dict(zip((entry.label for entry in entries), labels, strict=True))
    found = []
    for column in columns:
        if (row := best.get(column.name)) is not None:
            (label,) = by_run([row])
            found.append((column, row, short.get(label, label)))
    return found


def _picture(run: int, picture: "np.ndarray", note: str = "") -> _Picture:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    height, width = picture.shape[:2]
    factor = max(1, SMALL // width)
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return _Picture(run, url, width * factor, height * factor, factor > 1, note)
