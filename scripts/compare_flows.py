"""Flows of points in the plane by this package's recipes, beside zuko's own models trained by a bare loop.

    python scripts/compare_flows.py
    python scripts/compare_flows.py --flows maf --sets moons --steps 1000

Both have the same number of parameters and see the same points in the same order (256 a step, every point once), with
the same optimiser, rate and schedule; −log p is that of 20,000 other points, in nats. zuko's splines have the bound 5,
so for its models points are divided by their standard deviations, and the nats are those of the points as they were.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import DataModule
from lightning_gen.families import NormalizingFlow

RECIPES = Path(__file__).parents[1] / "configs" / "flow"
FLOWS = {"realnvp": "RealNVP", "maf": "MAF", "autoregressive_spline": "NSF"}
SETS = ("eight_gaussians", "checkerboard", "moons")


def zukos(name: str, settings: dict[str, Any]) -> Any:
    """Zuko's flow of the same sizes as a recipe's."""
    import zuko

    arguments = {key: value for key, value in settings["init_args"].items() if key != "bound"}
    return getattr(zuko.flows, FLOWS[name])(2, **arguments)


def train(log_prob: Any, model: nn.Module, points: Tensor, options: argparse.Namespace) -> float:
    """A bare loop of −log p; seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr, fused=True)
    schedule = CosineAnnealingLR(optimizer, options.steps)
    start = time.perf_counter()
    for x in points[: options.steps * 256].split(256):
        loss = -log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return time.perf_counter() - start


def compare(name: str, data_name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Both models of one flow on one set."""
    settings = yaml.safe_load((RECIPES / f"{name}_{data_name}.yaml").read_text())
    data = instantiate(DataModule, settings["data"])
    every = torch.arange(options.steps * 256)
    points, held_out = data.split("train")[every]["x"], data.split("test")[torch.arange(20_000)]["x"]
    std = points.std(0)
    found: dict[str, Any] = {"flow": name, "set": data_name}
    torch.manual_seed(options.seed)
    ours = instantiate(NormalizingFlow, settings["model"])
    torch.manual_seed(options.seed)
    theirs = zukos(name, settings["model"]["init_args"]["flow"])
    arms = {
        "lightning_gen": (ours, lambda x: ours.log_p(x, None)),
        "zuko": (theirs, lambda x: theirs().log_prob(x / std) - std.log().sum()),
    }
    for arm, (model, log_prob) in arms.items():
        seconds = train(log_prob, model, points, options)
        with torch.no_grad():
            nats = -log_prob(held_out)
        parameters = sum(p.numel() for p in model.parameters())
        found[arm] = {"nats": float(nats.mean()), "se": float(nats.std()) / 20_000**0.5}
        found[arm] |= {"parameters": parameters, "seconds": seconds}
    return found


def main() -> None:
    """Train, print a Markdown table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", nargs="+", choices=tuple(FLOWS), default=list(FLOWS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--steps", type=int, default=4000, help="at most 4,000, of 256 points")
    parser.add_argument("--lr", type=float, default=1e-3, help="Adam's, at first; it falls along half a cosine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="compare_flows.json", help="the JSON file")
    options = parser.parse_args()
    rows = [compare(name, data, options) for name in options.flows for data in options.sets]
    Path(options.output).write_text(json.dumps({"settings": vars(options), "rows": rows}, indent=2) + "\n")
    print(f"| flow | points | parameters | nats | zuko's nats | s | zuko's s |\n|---|---|{'---:|' * 5}")
    for row in rows:
        ours, theirs = row["lightning_gen"], row["zuko"]
        print(
            f"| {row['flow']} | {row['set']} | {ours['parameters']:,} / {theirs['parameters']:,} | {ours['nats']:.3f} ±"
            f" {ours['se']:.3f} | {theirs['nats']:.3f} ± {theirs['se']:.3f} | {ours['seconds']:.0f} |"
            f" {theirs['seconds']:.0f} |"
        )


if __name__ == "__main__":
    main()
