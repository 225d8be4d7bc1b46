r"""A table of a metric against the evaluations of the network that a sampler takes, for the documentation.

    python scripts/report_evaluations.py --ckpt_path runs/edm_digits/version_0/checkpoints/last.ckpt \
      --samplers Euler Heun DPMSolverPlusPlus --steps 5 10 20 40

Rows are numbers of steps, columns samplers; a cell is the metric, and in brackets how often the network was asked. All
are measured by `lightning_gen evaluate` on the same seeds, whose files, with the protocol of every number, go to
`--output`. A sampler may have arguments: `--samplers '{class_path: DDIM, init_args: {eta: 0.5}}'`. One that refuses a
number of steps has an empty cell. Options that are not known here are those of `evaluate`.
"""

import argparse
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

from lightning_gen.checkpoints import load
from lightning_gen.commands import run
from lightning_gen.commands.sampling import Sampling
from lightning_gen.errors import UserError
from lightning_gen.noise import sample_seeds


def with_steps(sampler: str, steps: int) -> dict[str, Any]:
    """A sampler named by the command line, with a number of steps."""
    word: Any = yaml.safe_load(sampler)
    part: dict[str, Any] = {"class_path": word} if isinstance(word, str) else word
    return part | {"init_args": part.get("init_args", {}) | {"steps": steps}}


def evaluations(ckpt_path: str, sampler: dict[str, Any]) -> int:
    """How often the network is asked for a sample.

    Raises:
        UserError: if the model cannot be sampled so.
    """
    model: Any = load(ckpt_path)[0]
    Sampling(sampler).apply(model)
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    model.network.register_forward_hook(counted)
    model.sample(1, seeds=sample_seeds(0, torch.arange(1)))
    return count


def measured(sampler: dict[str, Any], target: Path, options: argparse.Namespace, more: list[str]) -> float:
    """The metric, by the command `evaluate`."""
    words = ["evaluate", "--ckpt_path", options.ckpt_path, "--sampler", json.dumps(sampler), "--output", str(target)]
    with contextlib.redirect_stdout(io.StringIO()):
        run([*words, *more])
    return float(json.loads(target.with_suffix(".json").read_text())["results"][-1][options.metric])


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt_path", required=True)
    parser.add_argument("--samplers", nargs="+", default=["Heun"])
    parser.add_argument("--steps", nargs="+", type=int, default=[5, 10, 20, 40])
    parser.add_argument("--metric", default="fid_digits")
    parser.add_argument("--output", type=Path, default=Path("evaluations"), help="folder for files of `evaluate`")
    options, more = parser.parse_known_args(words)  # the rest is for `evaluate`
    options.output.mkdir(parents=True, exist_ok=True)
    print("| steps |" + "".join(f" `{word}` |" for word in options.samplers))
    print("|---:|" + "---:|" * len(options.samplers))
    for steps in options.steps:
        cells = []
        for k, word in enumerate(options.samplers):
            sampler = with_steps(word, steps)
            try:
                asked = evaluations(options.ckpt_path, sampler)
                value = measured(sampler, options.output / f"{k}_{steps}", options, more)
                cells.append(f"{value:.2f} ({asked})")
            except UserError as error:
                print(error, file=sys.stderr)
                cells.append("")
        print(f"| {steps} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
