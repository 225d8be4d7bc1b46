"""Values of a report as cells of a table, and the protocol as lists of facts."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_gen.commands.results import (
    JACKKNIFE,
    SUFFIXES,
    Row,
    best_of,
    half_width,
    interval,
    number,
    rounded,
    value_names,
)

MORE = {suffix: suffix.strip("_") for suffix in SUFFIXES if suffix != "_se"}
"""What stands below a value: the name's ending and what it is called."""


@dataclass(frozen=True)
class Column:
    """A metric: its name, and whether more of it is better (None if that cannot be said)."""

    name: str
    higher_is_better: bool | None

    @property
    def better(self) -> str:
        """In words, or empty."""
        return "" if self.higher_is_better is None else f"{'higher' if self.higher_is_better else 'lower'} is better"

    def best(self, rows: list[Row]) -> Row | None:
        """The row with the best value, None where nothing is better."""
        return best_of(rows, self.name, self.higher_is_better)


@dataclass(frozen=True)
class Bar:
    """Where a value and its interval lie on the common scale of a column, in percent of its width."""

    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Cell:
    """A value as it is shown, with everything that belongs to it."""

    value: float | None
    text: str
    more: list[tuple[str, str]]
    best: bool
    bar: Bar | None


def cleaned(rows: list[Row]) -> list[Row]:
    """Rows with None in place of values that are not finite."""
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


def columns_of(rows: list[Row], protocol: dict[str, Any]) -> list[Column]:
    """A column for each number in the rows that says no more about another, in their order."""
    names = [name for name in value_names(rows) if not name.endswith(SUFFIXES)]
    numbers = [name for name in names if all(_is_number(row[name]) for row in rows if row.get(name) is not None)]
    return [Column(name, protocol.get(name, {}).get("higher_is_better")) for name in numbers]


def cells(rows: list[Row], column: Column) -> list[Cell]:
    """A column of a table, from top to bottom. The best is marked, and intervals are drawn, where there are several."""
    best = column.best(rows) if len(rows) > 1 else None
    name, bars = column.name, _bars(rows, column.name)
    found = []
    for row, bar in zip(rows, bars, strict=True):
        half = half_width(row, name)
        more = [
            (word, number(row, name + suffix) if suffix == JACKKNIFE else rounded(row[name + suffix], half))
            for suffix, word in MORE.items()
            if _is_number(row.get(name + suffix))
        ]
        found.append(Cell(row.get(name), number(row, name), more, row is best, bar))
    return found


def short_labels(labels: list[str]) -> tuple[str, list[str]]:
    """The folder that all runs share, and their labels below it; an empty folder if there is none worth telling."""
    paths = [Path(label) for label in labels]
    if len(paths) < 2 or len({path.anchor for path in paths}) > 1:
        return "", labels
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    if shared in (Path(), Path(paths[0].anchor)):
        return "", labels
    return str(shared), [str(path.relative_to(shared)) for path in paths]


def _bars(rows: list[Row], name: str) -> list[Bar | None]:
    spans = []
    for row in rows:
        value, span = row.get(name), interval(row, name)
        low, high = span or (value, value)
        spans.append(None if value is None else (min(low, value), value, max(high, value)))
    known = [span for span in spans if span is not None]
    if len(known) < 2:
        return [None] * len(rows)
    low, high = min(span[0] for span in known), max(span[2] for span in known)
    if low == high:
        return [None] * len(rows)
    scale = 100.0 / (high - low)
    return [None if span is None else Bar(*((edge - low) * scale for edge in span)) for span in spans]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
