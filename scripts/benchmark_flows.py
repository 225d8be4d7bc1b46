"""What densities, training steps and samples of autoregressive flows cost, against other libraries.

    python scripts/benchmark_flows.py
    python scripts/benchmark_flows.py --threads 1 --rounds 15 --output benchmark_flows.json

The flows are a masked autoregressive flow and an autoregressive spline of 8 bins, of 5 transforms with two hidden
layers of 128 units, on 256 vectors of 16 numbers: this package's, zuko's own models, and those of nflows and normflows
where these are installed. All have the same number of parameters, which is printed. Calls are interleaved (A B C D,
A B C D, …) after two that are not counted; times are medians over rounds, and ratios those of a library to this package
within a round, then the median. Densities and samples are computed without gradients, a training step is −log p and its
gradients, without an optimiser.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Library = tuple[nn.Module, Callable[[Tensor], Tensor], Callable[[int], Tensor]]
"""A model, its log-density of vectors, and what draws so many."""

FLOWS = {"maf": "masked autoregressive flow", "spline": "autoregressive spline"}


def of_this_package(kind: str, options: argparse.Namespace) -> Library:
    """The family, without a trainer."""
    from lightning_gen.bijections import MAF, AutoregressiveSpline
    from lightning_gen.families import NormalizingFlow

    sizes = {"transforms": options.transforms, "hidden_features": options.hidden_features}
    flows = {"maf": partial(MAF, **sizes), "spline": partial(AutoregressiveSpline, bins=options.bins, **sizes)}
    model = NormalizingFlow([options.dim], flows[kind], torch.optim.Adam)
    return model, lambda x: model.log_p(x, None), lambda n: model.sample(n)


def of_zuko(kind: str, options: argparse.Namespace) -> Library:
    """zuko.flows.MAF, or NSF."""
    import zuko

    sizes = {"transforms": options.transforms, "hidden_features": options.hidden_features}
    if kind == "maf":
        flow: Any = zuko.flows.MAF(options.dim, **sizes)
    else:
        flow = zuko.flows.NSF(options.dim, bins=options.bins, **sizes)
    return flow, lambda x: flow().log_prob(x), lambda n: flow().sample((n,))


def of_nflows(kind: str, options: argparse.Namespace) -> Library:
    """Nflows' masked transforms between reversals."""
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms import CompositeTransform, ReversePermutation
    from nflows.transforms import autoregressive as masked

    sizes = {"num_blocks": len(options.hidden_features) - 1, "use_residual_blocks": False}
    spline = {"num_bins": options.bins, "tails": "linear", "tail_bound": 5.0}
    layers: list[nn.Module] = []
    for _ in range(options.transforms):
        arguments = (options.dim, options.hidden_features[0])
        if kind == "maf":
            layers.append(masked.MaskedAffineAutoregressiveTransform(*arguments, **sizes))
        else:
            layers.append(masked.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(*arguments, **sizes, **spline))
        layers.append(ReversePermutation(options.dim))
    flow = Flow(CompositeTransform(layers), StandardNormal([options.dim]))
    return flow, flow.log_prob, flow.sample


def of_normflows(kind: str, options: argparse.Namespace) -> Library:
    """The same of normalizing-flows, whose layers go from noise to samples."""
    import normflows
    from normflows.flows.neural_spline.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressive

    class Reversed(normflows.flows.Flow):
        """Layers the other way round, so that densities are what takes one pass."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer.inverse(z)

        def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return self.layer.forward(z)

    class Flip(normflows.flows.Flow):
        """The reversal of the order."""

        def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
            return z.flip(-1), z.new_zeros(len(z))

        inverse = forward

    sizes = {"num_blocks": len(options.hidden_features) - 1, "use_residual_blocks": False}
    spline = {"num_bins": options.bins, "tails": "linear", "tail_bound": 5.0, "init_identity": False}
    layers: list[Any] = []
    for _ in range(options.transforms):
        arguments = (options.dim, options.hidden_features[0])
        if kind == "maf":
            layers.append(Reversed(normflows.flows.MaskedAffineAutoregressive(*arguments, **sizes)))
        else:
            layers.append(Reversed(MaskedPiecewiseRationalQuadraticAutoregressive(*arguments, **sizes, **spline)))
        layers.append(Flip())
    flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(options.dim, trainable=False), layers)
    return flow, flow.log_prob, lambda n: flow.sample(n)[0]


LIBRARIES = {
    "lightning_gen": of_this_package,
    "zuko": of_zuko,
    "nflows": of_nflows,
    "normflows": of_normflows,
}


def jobs(library: Library, x: Tensor) -> dict[str, Callable[[], Any]]:
    """What is timed."""
    _, log_prob, sample = library

    def step() -> None:
        (-log_prob(x).mean()).backward()

    return {
        "log p": torch.no_grad()(partial(log_prob, x)),
        "training step": step,
        "samples": torch.no_grad()(partial(sample, len(x))),
    }


def seconds_of(job: Callable[[], Any], device: str) -> float:
    """How long one call takes."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    job()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(kind: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every library and job of one kind of flow, interleaved."""
    x = torch.randn(options.batch_size, options.dim, device=options.device)
    made: dict[str, Library] = {}
    for name, make in LIBRARIES.items():
        if find_spec(name) is not None:
            torch.manual_seed(0)
            made[name] = make(kind, options)
            made[name][0].to(options.device)
    timed = {name: jobs(library, x) for name, library in made.items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {job: [] for job in timed[name]} for name in made}
    for k in range(options.rounds + 2):
        for job in timed["lightning_gen"]:
            for name in made:
                taken = seconds_of(timed[name][job], options.device)
                if k > 1:
                    seconds[name][job].append(taken)
    results: dict[str, dict[str, Any]] = {}
    for name, (model, *_) in made.items():
        results[name] = {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)}
        for job, taken in seconds[name].items():
            ratios = [a / b for a, b in zip(taken, seconds["lightning_gen"][job], strict=True)]
            results[name][job] = {"median": statistics.median(taken), "ratio": statistics.median(ratios)}
    return results


def table(kind: str, results: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    names = [job for job in results["lightning_gen"] if job != "parameters"]
    lines = [f"| {FLOWS[kind]} | parameters | {' | '.join(f'{job}, ms (×)' for job in names)} |"]
    lines.append("|---|---:|" + "---:|" * len(names))
    for name, row in results.items():
        cells = [f"{1e3 * row[job]['median']:.1f} ({row[job]['ratio']:.2f})" for job in names]
        lines.append(f"| {name} | {row['parameters']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print Markdown tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=16, help="numbers of a vector")
    parser.add_argument("--batch_size", type=int, default=256, help="vectors of a call")
    parser.add_argument("--transforms", type=int, default=5)
    parser.add_argument("--hidden_features", type=int, nargs="+", default=[128, 128], help="all alike")
    parser.add_argument("--bins", type=int, default=8, help="of splines")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each")
    parser.add_argument("--threads", type=int, help="of torch; its own number unless given")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", default="benchmark_flows.json", help="the JSON file")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = {kind: measure(kind, options) for kind in FLOWS}
    text = "\n\n".join(table(kind, rows) for kind, rows in results.items())
    about = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
    content = {"settings": vars(options), **about, "results": results, "table": text}
    Path(options.output).write_text(json.dumps(content, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
