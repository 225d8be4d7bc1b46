"""Curves of a report: values over steps with their intervals, as coordinates of an SVG picture."""

import math
from dataclasses import dataclass, field

from matplotlib.ticker import LogLocator, MaxNLocator

from lightning_gen.commands.report.tables import Column
from lightning_gen.commands.results import Row, interval, number

WIDTH, HEIGHT = 460, 280
TOP, RIGHT, BOTTOM = 12, 22, 46
LOG_FROM = 15.0
"""Values whose largest is this many times the smallest are drawn on a logarithmic scale."""


@dataclass(frozen=True)
class Tick:
    """A place on an axis, and its number."""

    at: float
    text: str


@dataclass(frozen=True)
class Point:
    """A value of a run, its interval, and what a reader is told of it; coordinates count from the top left."""

    x: float
    y: float
    low: float
    high: float
    step: str
    text: str


@dataclass(frozen=True)
class Curve:
    """The values of run `run`, from left to right; `constant` for one without steps, which is a level line."""

    run: int
    points: list[Point]
    constant: bool

    @property
    def line(self) -> str:
        """The curve as an SVG path."""
        return "M" + "L".join(f"{p.x:.1f},{p.y:.1f}" for p in self.points)

    @property
    def band(self) -> str:
        """The outline of the intervals as an SVG path; empty where there are none."""
        if len(self.points) < 2 or all(p.low == p.high for p in self.points):
            return ""
        edge = [(p.x, p.high) for p in self.points] + [(p.x, p.low) for p in reversed(self.points)]
        return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in edge) + "Z"


@dataclass(frozen=True)
class Chart:
    """A metric over steps, for every run."""

    column: Column
    log: bool
    left: float
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    width: int = field(default=WIDTH, init=False)
    height: int = field(default=HEIGHT, init=False)
    bottom: int = field(default=HEIGHT - BOTTOM, init=False)
    right: int = field(default=WIDTH - RIGHT, init=False)
    top: int = field(default=TOP, init=False)


@dataclass(frozen=True)
class _Axis:
    """From numbers to places: `low` is at `start`, `high` at `end`, and what is beyond them as well."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(edge) if self.log else edge for edge in (self.low, self.high))
        value = min(max(value, self.low), self.high)
        share = ((math.log(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def charts(runs: list[list[Row]], columns: list[Column]) -> list[Chart]:
    """A chart for each metric that some run has at several steps.

    A run that has it at one step is a point with its interval, one without steps a line across.
    """
    found = []
    for column in columns:
        known = [[row for row in rows if row.get(column.name) is not None] for rows in runs]
        if any(len({row["step"] for row in rows if "step" in row}) > 1 for rows in known):
            found.append(_chart(known, column))
    return found


def _chart(runs: list[list[Row]], column: Column) -> Chart:
    rows = [row for rows in runs for row in rows]
    steps, values = [row["step"] for row in rows if "step" in row], [row[column.name] for row in rows]
    spans = [_span(row, column.name) for row in rows]
    log = min(values) > 0 and max(values) > LOG_FROM * min(values)
    # an interval may reach below 0, where a logarithmic scale cannot follow
    low = min(max(span[0], value / 3) if log else span[0] for value, span in zip(values, spans, strict=True))
    high = max(span[1] for span in spans)
    low, high = (low / 1.1, high * 1.1) if log else _padded(low, high)
    places = _log_ticks(low, high) if log else MaxNLocator(5).tick_values(low, high)
    y_ticks = _ticks([float(place) for place in places if low <= place <= high])
    left = 40.0 + 7.0 * max((len(text) for _, text in y_ticks), default=1)
    y = _Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    x = _Axis(min(steps), max(steps), left + 6, WIDTH - RIGHT - 6)
    x_places = [p for p in MaxNLocator(4, integer=True).tick_values(x.low, x.high) if x.low <= p <= x.high]
    curves = [_curve(run, rows, column.name, x, y) for run, rows in enumerate(runs) if rows]
    return Chart(
        column,
        log,
        left,
        [Tick(x(place), f"{place:,.0f}") for place in x_places],
        [Tick(y(place), text) for place, text in y_ticks],
        curves,
    )


def _curve(run: int, rows: list[Row], name: str, x: _Axis, y: _Axis) -> Curve:
    stepped = sorted((row for row in rows if "step" in row), key=lambda row: row["step"])
    places = [(x(row["step"]), f"{row['step']:,}", row) for row in stepped]
    if not places:
        places = [(x.start - 6, "", rows[-1]), (x.end + 6, "", rows[-1])]
    points = []
    for place, step, row in places:
        low, high = _span(row, name)
        points.append(Point(place, y(row[name]), y(low), y(high), step, number(row, name)))
    return Curve(run, points, constant=not stepped)


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _log_ticks(low: float, high: float) -> list[float]:
    few, many = (LogLocator(subs=subs, numticks=50).tick_values(low, high) for subs in ((1.0,), (1.0, 2.0, 5.0)))
    return list(many if sum(low <= place <= high for place in many) <= 9 else few)


def _ticks(places: list[float]) -> list[tuple[float, str]]:
    """Numbers with as many decimals each as the longest needs."""
    texts = [f"{place:.6g}" for place in places]
    if any("e" in text for text in texts):
        return list(zip(places, texts, strict=True))
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [(place, f"{place:,.{decimals}f}") for place in places]


def _span(row: Row, name: str) -> tuple[float, float]:
    """The lowest and the highest that is shown of a value: itself and its interval."""
    low, high = interval(row, name) or (row[name], row[name])
    return min(low, row[name]), max(high, row[name])
