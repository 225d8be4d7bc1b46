r"""Train recipes with several seeds and tabulate what their last validation measured.

    python scripts/measure_recipes.py configs/gan/*_ring8.yaml --metrics modes_raw high_quality_raw kl_raw
    python scripts/measure_recipes.py configs/gan/sgan_digits.yaml --metrics val_error \
        --seed_flag data.init_args.label_seed --output sgan
    python scripts/measure_recipes.py configs/gan/gan_ring8.yaml --metrics fid_raw -- --trainer.max_steps 1000

Each run is `lightning_gen fit --config RECIPE --seed_everything SEED` with one thread, in a folder below `--root`;
`--jobs` of them at a time. What follows `--` is passed on to every run. Results go to OUTPUT.json as they come, so a
measurement that was broken off goes on where it was; a recipe that has changed, or other flags, are measured anew. The
Markdown table at the end has means over seeds, and standard deviations.
"""

import argparse
import csv
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import torch


def last_row(folder: Path, metrics: list[str]) -> dict[str, float]:
    """The last validation's values; those of the callbacks, or what the model logged itself."""
    rows: list[dict[str, str]] = []
    if (folder / "metrics.csv").exists():
        with (folder / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    found = {name: float(rows[-1][name]) for name in metrics if rows and name in rows[-1]}
    missing = [name for name in metrics if name not in found]
    return found | (last_scalars(folder, missing) if missing else {})


def last_scalars(folder: Path, names: list[str]) -> dict[str, float]:
    """The last values that TensorBoard was given."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {name: events.Scalars(name)[-1].value for name in names}


def train(recipe: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One run, and what it measured."""
    name = f"{recipe.stem}_seed{seed}"
    words = [f"--config={recipe}", f"--seed_everything={seed}", f"--run_name={name}"]
    words += [f"--trainer.default_root_dir={options.root}", "--trainer.enable_progress_bar=false"]
    words += [f"--{flag}={seed}" for flag in options.seed_flag] + options.passed
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, "-m", "lightning_gen", "fit", *words],
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    if run.returncode:
        raise SystemExit(f"{name} failed:\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}")
    folder = max((Path(options.root) / name).glob("version_*"), key=lambda path: path.stat().st_mtime)
    return {"seconds": seconds, **last_row(folder, options.metrics)}


def table(results: dict[str, dict[str, Any]], metrics: list[str]) -> str:
    """Markdown: a row a recipe, mean ± standard deviation over seeds."""
    lines = [
        f"| recipe | seeds | {' | '.join(metrics)} | seconds a run |",
        "|---|---:|" + "---:|" * (len(metrics) + 1),
    ]
    recipes: dict[str, list[dict[str, Any]]] = {}
    for key, found in results.items():
        recipes.setdefault(key.rsplit("_seed", 1)[0], []).append(found)
    for recipe, runs in recipes.items():
        cells = [spread([run[name] for run in runs]) for name in metrics]
        seconds = statistics.median(run["seconds"] for run in runs)
        lines.append(f"| `{recipe}` | {len(runs)} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean ± standard deviation, to four figures."""
    deviation = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4g}{deviation}"


def main() -> None:
    """Run what is missing, write JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--metrics", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--seed_flag", nargs="*", default=[], help="more keys that are given the seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--root", default="runs")
    parser.add_argument("--output", default="measured", help="results go to OUTPUT.json")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.passed = words[split + 1 :]

    path, lock = Path(f"{options.output}.json"), Lock()
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"results": {}}
    content["settings"] = {"threads": options.threads, "jobs": options.jobs}
    content["machine"] = {"torch": torch.__version__, "processor": platform.machine(), "cores": os.cpu_count()}

    def measure(recipe: Path, seed: int) -> None:
        key = f"{recipe.stem}_seed{seed}"
        made = {"recipe": hashlib.sha256(recipe.read_bytes()).hexdigest(), "passed": options.passed}
        if content["results"].get(key, {}).get("made") == made:
            return
        found = train(recipe, seed, options) | {"made": made}
        with lock:
            content["results"][key] = found
            path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
            print(key, found, file=sys.stderr, flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [pool.submit(measure, recipe, seed) for recipe in options.recipes for seed in options.seeds]
        for task in tasks:
            task.result()
    wanted = {f"{recipe.stem}_seed{seed}" for recipe in options.recipes for seed in options.seeds}
    chosen = {key: found for key, found in content["results"].items() if key in wanted}
    print(table(chosen, options.metrics))


if __name__ == "__main__":
    main()
