"""A table and a figure of finished runs, for the documentation.

    for s in 0 1 2; do
      lightning_gen fit --config configs/gan/dcgan_digits.yaml --seed_everything $s --run_name seed$s
    done
    python scripts/report_runs.py runs/seed?/version_0 --steps 250 500 1000 2500 --figure digits.png

The table has a row a run: the metric at the first validation, its best and where, and its last; printed as Markdown.
The figure shows the sample grids of the first run at `--steps`, or the last of every run, side by side.
"""

import argparse
import csv
import statistics
from pathlib import Path

from PIL import Image


def read(run: Path, metric: str) -> list[tuple[int, float]]:
    """(step, value) at each validation."""
    with (run / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), float(row[metric])) for row in csv.DictReader(file)]


def table(runs: list[Path], metric: str, largest: bool) -> str:
    """Markdown: a row a run, and the means."""
    lines = [f"| run | {metric} at the first validation | best (step) | last |", "|---|---:|---:|---:|"]
    firsts, bests, lasts = [], [], []
    for run in runs:
        curve = read(run, metric)
        step, best = (max if largest else min)(curve, key=lambda point: point[1])
        firsts, bests, lasts = [*firsts, curve[0][1]], [*bests, best], [*lasts, curve[-1][1]]
        lines.append(f"| {run.parent.name} | {curve[0][1]:.1f} | {best:.1f} ({step}) | {curve[-1][1]:.1f} |")
    means = " | ".join(f"{statistics.mean(values):.1f}" for values in (firsts, bests, lasts))
    return "\n".join([*lines, f"| mean | {means} |"])


def chosen(runs: list[Path], steps: list[int] | None) -> list[Path]:
    """The first run's grids at `steps`, or each run's last."""
    if steps:
        return [runs[0] / "grids" / f"step={step:06d}.png" for step in steps]
    return [max((run / "grids").glob("step=*.png")) for run in runs]


def figure(paths: list[Path], gap: int = 8) -> Image.Image:
    """Grids side by side."""
    grids = [Image.open(path) for path in paths]
    width = sum(grid.width for grid in grids) + gap * (len(grids) - 1)
    picture = Image.new("RGB", (width, max(grid.height for grid in grids)), "white")
    left = 0
    for grid in grids:
        picture.paste(grid, (left, 0))
        left += grid.width + gap
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--metric", default="fid_digits")
    parser.add_argument("--largest", action="store_true", help="the larger the metric, the better")
    parser.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    print(table(options.runs, options.metric, options.largest))
    if options.figure:
        figure(chosen(options.runs, options.steps)).save(options.figure)


if __name__ == "__main__":
    main()
