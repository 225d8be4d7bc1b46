"""How fast the FID Inception and the Fréchet distance are, and how equal, against torch-fidelity and torchmetrics.

    python scripts/benchmark_evaluation.py                                  # the GPU if there is one, else the CPU
    python scripts/benchmark_evaluation.py --weights inception.pth --images 'cifar10/*.npz'
    python scripts/benchmark_evaluation.py --arms ours,compiled --num_images 32 --rounds 3 --num_compared 64

(a) Speed: features of uint8 images in memory, resize included. Rounds are interleaved (A B C, A B C, …), after a first
    batch of each that is not counted, in which compilation happens; a round ends when all features are on the CPU.
    Ratios are those of two arms within a round, then the median over rounds.
(b) Agreement: FID between two sets of images by each arm's features, and the largest difference of features, against
    torch-fidelity's. The distance itself is computed by the same float64 code for all of them.
(c) Memory: the peak of a process of its own for each arm: the allocator's on a GPU, resident memory on the CPU.
(d) The Fréchet distance of two Gaussians of 2048 features with covariances of full rank, on the CPU.

Without --weights, random weights are written to a temporary folder; their normalisations are set by one batch, so that
every layer has something to say. Without --images, images are smooth random colours.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lightning_gen.data import ImageArrays
from lightning_gen.metrics import InceptionV3, frechet_distance
from lightning_gen.metrics.fid import factored_distance, fast_distance
from lightning_gen.metrics.moments import covariance_factor

BARS = {"ours": 2.0, "bf16_compiled": 6.0}
AGREEMENT_BAR = 1e-5
BASE = "torch_fidelity"
Describe = Callable[[Tensor], Tensor]


# ---------------------------------------------------------------- weights and images


def write_random_weights(path: Path) -> None:
    """A state dict of the FID Inception whose layers keep the scale of their inputs."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Fresh(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: Any, **__: Any) -> Any:
            return None

    torch.manual_seed(0)
    torch.save({}, path)
    network = Fresh("fresh", ["2048"], feature_extractor_weights_path=str(path))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(random_images(4, 64, seed=9))
    torch.save(network.state_dict(), path)


def random_images(num: int, size: int, seed: int, contrast: float = 1.0) -> Tensor:
    """(num, 3, size, size) uint8: smooth colours with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    smooth = interpolate(torch.rand(num, 3, 6, 6, generator=generator), (size, size), mode="bicubic")
    noisy = 0.5 + contrast * (smooth - 0.5) + 0.05 * torch.randn(num, 3, size, size, generator=generator)
    return (255 * noisy).round().clamp(0, 255).to(torch.uint8)


def two_sets(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """What is compared, and of which speed is measured: (num_compared, 3, H, W) twice."""
    num = options.num_compared
    if options.images is None:
        size = options.image_size
        return random_images(num, size, seed=1), random_images(num, size, seed=2, contrast=0.7)
    x = ImageArrays(options.images, labels_key=None).split("train")[torch.arange(2 * num)]["x"]
    return x[:num], x[num:]


# ---------------------------------------------------------------- arms


def torch_fidelity_arm(options: argparse.Namespace) -> Describe:
    """As torch-fidelity's `calculate_metrics(fid=True)` builds it."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", [options.feature], feature_extractor_weights_path=options.weights
    ).to(options.device)
    return lambda x: network(x)[0]


def torchmetrics_arm(options: argparse.Namespace) -> Describe:
    """As `FrechetInceptionDistance` builds it, whose default resize is antialiased."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    network = NoTrainInceptionV3(
        "inception-v3-compat", [options.feature], feature_extractor_weights_path=options.weights
    ).to(options.device)
    return lambda x: network(x)


def our_arm(**settings: Any) -> Callable[[argparse.Namespace], Describe]:
    """`InceptionV3` with these settings."""

    def build(options: argparse.Namespace) -> Describe:
        extractor = InceptionV3(options.feature, options.weights, **settings).prepare().to(options.device)
        return lambda x: extractor(x).pooled

    return build


ARMS: dict[str, tuple[str, Callable[[argparse.Namespace], Describe]]] = {
    BASE: ("torch-fidelity", torch_fidelity_arm),
    "torchmetrics": ("torchmetrics (antialiased)", torchmetrics_arm),
    "ours": ("`InceptionV3`", our_arm()),
    "compiled": ("`InceptionV3`, `compile: true`", our_arm(compile=True)),
    "bf16": ("`InceptionV3`, `precision: bf16`", our_arm(precision="bf16")),
    "bf16_compiled": ("`InceptionV3`, `precision: bf16`, `compile: true`", our_arm(precision="bf16", compile=True)),
}


@torch.no_grad()
def describe_all(describe: Describe, x: Tensor, options: argparse.Namespace) -> Tensor:
    """(N, d) features of `x`, in batches, on the CPU."""
    return torch.cat([describe(batch.to(options.device)).cpu() for batch in x.split(options.batch_size)])


# ---------------------------------------------------------------- (a) speed and (b) agreement


def seconds_of(work: Callable[[], Tensor]) -> float:
    """How long `work` takes; its result is on the CPU, so a GPU is done with it."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance in float64."""
    x = features.double()
    return x.mean(dim=0), torch.cov(x.T)


def measure_arms(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Speed and agreement of the chosen arms."""
    first, second = two_sets(options)
    timed = first.repeat(-(-options.num_images // len(first)), 1, 1, 1)[: options.num_images]
    arms = {name: ARMS[name][1](options) for name in options.arms}

    results: dict[str, dict[str, Any]] = {}
    for name, describe in arms.items():  # also what happens once in a process, which is nobody's
        start = time.perf_counter()
        describe_all(describe, timed[: options.batch_size], options)
        results[name] = {"first_batch_seconds": time.perf_counter() - start, "seconds": []}
    for k in range(options.rounds):
        for name, describe in arms.items():
            results[name]["seconds"].append(seconds_of(partial(describe_all, describe, timed, options)))
        print(f"round {k + 1} of {options.rounds}", file=sys.stderr)

    base, published = results[BASE]["seconds"], describe_all(arms[BASE], first, options)
    for name, describe in arms.items():
        result = results[name]
        features = [describe_all(describe, x, options) for x in (first, second)]
        ratios = [a / b for a, b in zip(base, result["seconds"], strict=True)]
        result["images_per_second"] = len(timed) / statistics.median(result["seconds"])
        result["ratio"], result["ratios"] = statistics.median(ratios), ratios
        result["fid"] = float(frechet_distance(*gaussian(features[0]), *gaussian(features[1])))
        result["fid_difference"] = abs(result["fid"] / results[BASE]["fid"] - 1)
        result["feature_difference"] = float((features[0] - published).abs().max() / published.abs().max())
    return results


# ---------------------------------------------------------------- (c) memory


def peak_memory(device: str) -> float:
    """MiB, of this process since its start."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count the parent's memory at the time of the fork, too
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def memory_of(name: str, options: argparse.Namespace) -> float:
    """Peak memory of an arm in a process of its own, MiB."""
    kept = {key: value for key, value in vars(options).items() if key not in ("arm", "arms", "output", "random")}
    words = [f"--{key}={value}" for key, value in kept.items() if value is not None]
    command = [sys.executable, __file__, *words, f"--arm={name}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


# ---------------------------------------------------------------- (d) the Fréchet distance


def by_scipy(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """As the evaluations of 2017 to 2022 compute it."""
    from scipy.linalg import sqrtm

    root = sqrtm(cov1.numpy() @ cov2.numpy())
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * np.trace(root).real)


def by_torch_fidelity(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    sets = ({"mu": mean.numpy(), "sigma": cov.numpy()} for mean, cov in ((mean1, cov1), (mean2, cov2)))
    return fid_statistics_to_metric(*sets, verbose=False)[KEY_METRIC_FID]


def by_torchmetrics(*moments: Tensor) -> float:
    from torchmetrics.image.fid import _compute_fid

    return float(_compute_fid(*moments))


DISTANCES: dict[str, tuple[str, Callable[..., float]]] = {
    "torch_fidelity": ("torch-fidelity, eigenvalues of the product", by_torch_fidelity),
    "torchmetrics": ("torchmetrics, eigenvalues of the product", by_torchmetrics),
    "scipy": ("`scipy.linalg.sqrtm` of the product", by_scipy),
    "ours": ("`frechet_distance`", lambda *moments: float(frechet_distance(*moments))),
}
TITLES = {name: title for name, (title, _) in DISTANCES.items()} | {
    "ours_factored": "the same, the reference factored before: `FID` of every further checkpoint",
    "ours_fast": "`fast_distance`, the reference factored before: each replicate of the jackknife",
}


def measure_distances(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Time and value of each way; eigenvalues fall by a factor of 10,000, as those of Inception's features do."""
    d = options.frechet_features
    generator = torch.Generator().manual_seed(3)
    moments = []
    for shift in (0.0, 0.1):
        scale = torch.logspace(0, -2, d, dtype=torch.float64)
        x = (
            torch.randn(2 * d, d, dtype=torch.float64, generator=generator)
            * scale
            @ torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(4)))[0]
        )
        moments += gaussian(x + shift)
    known = covariance_factor(moments[1])
    ways = {name: distance for name, (_, distance) in DISTANCES.items()} | {
        "ours_factored": lambda *m: float(factored_distance(m[0], m[1], known, m[2], m[3], covariance_factor(m[3]))),
        "ours_fast": lambda *m: float(fast_distance(m[0], m[1], known, m[2], m[3])),
    }
    results: dict[str, dict[str, Any]] = {name: {"seconds": []} for name in ways}
    for k in range(options.frechet_rounds):
        for name, distance in ways.items():
            start = time.perf_counter()
            results[name]["value"] = distance(*moments)
            results[name]["seconds"].append(time.perf_counter() - start)
        print(f"distances, round {k + 1} of {options.frechet_rounds}", file=sys.stderr)
    base = results[BASE]
    for result in results.values():
        ratios = [a / b for a, b in zip(base["seconds"], result["seconds"], strict=True)]
        result["median"] = statistics.median(result["seconds"])
        result["ratio"], result["ratios"] = statistics.median(ratios), ratios
        result["difference"] = abs(result["value"] / base["value"] - 1)
    return results


# ---------------------------------------------------------------- report


def describe_machine(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured on what."""
    import torch_fidelity
    import torchmetrics

    cuda = options.device == "cuda"
    return {
        "settings": {
            key: value for key, value in vars(options).items() if key not in ("arm", "output", "weights", "random")
        },
        "weights": "random" if options.random else Path(options.weights).name,
        "torch": torch.__version__,
        "torch_fidelity": torch_fidelity.__version__,
        "torchmetrics": torchmetrics.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "amx": "amx_tile" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else None,
        "bars": {"speed": BARS, "fid_difference": AGREEMENT_BAR},
    }


def tables(results: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| arm | images a second | ratio (least to most) | bar | FID differs by | features differ by | first batch, s "
        "| peak memory, MiB |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for name, row in results["extractors"].items():
        bar = ""
        if name in BARS:
            met = row["ratio"] >= BARS[name]
            bar = f"≥ {BARS[name]:g}: {'met' if met else 'not met'}"
        if name == "ours":
            met = row["fid_difference"] <= AGREEMENT_BAR
            bar += f"; FID within {AGREEMENT_BAR:g}: {'met' if met else 'not met'}"
        lines.append(
            f"| {ARMS[name][0]} | {row['images_per_second']:,.1f} "
            f"| × {row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f}) | {bar} "
            f"| {row['fid_difference']:.1e} | {row['feature_difference']:.1e} | {row['first_batch_seconds']:.1f} "
            f"| {row['peak_memory_mib']:,.0f} |"
        )
    if results["distances"]:
        lines += ["", "| distance | s | ratio (least to most) | differs by |", "|---|---:|---:|---:|"]
    for name, row in results["distances"].items():
        lines.append(
            f"| {TITLES[name]} | {row['median']:.2f} "
            f"| × {row['ratio']:.2f} ({min(row['ratios']):.2f} to {max(row['ratios']):.2f}) | {row['difference']:.1e} |"
        )
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Everything, in order."""
    if options.arm:
        images = two_sets(options)[0][: options.num_images]
        describe_all(ARMS[options.arm][1](options), images, options)
        print(peak_memory(options.device))
        return
    results: dict[str, Any] = {"extractors": measure_arms(options), "distances": {}}
    for name in options.arms:
        results["extractors"][name]["peak_memory_mib"] = memory_of(name, options)
    if options.frechet_rounds:
        results["distances"] = measure_distances(options)
    text = tables(results)
    content = describe_machine(options) | results | {"table": text}
    Path(options.output).write_text(json.dumps(content, indent=2) + "\n")
    print(text)


def main() -> None:
    """Measure, print Markdown tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all arms")
    parser.add_argument("--num_images", type=int, default=64, help="images of a round")
    parser.add_argument("--num_compared", type=int, default=256, help="images in each of the two sets")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--image_size", type=int, default=32, help="of random images")
    parser.add_argument("--images", help="a .npy or .npz file of uint8 images, or a pattern, to compare")
    parser.add_argument("--weights", help="weights of the FID Inception; random ones if not given")
    parser.add_argument("--feature", choices=("64", "192", "768", "2048"), default="2048")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"which to measure beside {BASE}")
    parser.add_argument("--frechet_features", type=int, default=2048, help="d of the distances")
    parser.add_argument("--frechet_rounds", type=int, default=3, help="rounds of all distances; 0 leaves them out")
    parser.add_argument("--output", default="benchmark_evaluation.json", help="the JSON file")
    parser.add_argument("--arm", choices=tuple(ARMS), help="print the peak memory of this arm alone, in MiB")
    options = parser.parse_args()
    if unknown := set(options.arms.split(",")) - set(ARMS):
        parser.error(f"--arms holds {', '.join(sorted(unknown))}, but there are {', '.join(ARMS)}")
    options.arms = [name for name in ARMS if name in {BASE, *options.arms.split(",")}]
    options.random = options.weights is None
    warnings.filterwarnings("ignore")
    torch.set_float32_matmul_precision("highest")  # as the command does
    with tempfile.TemporaryDirectory() as folder:
        if options.random:
            options.weights = str(Path(folder) / "random.pth")
            write_random_weights(Path(options.weights))
        run(options)


if __name__ == "__main__":
    main()
