"""How long images take to draw pixel by pixel: with what was computed kept, against the whole network for each pixel.

    python scripts/benchmark_pixelcnn.py                                     # the GPU if there is one, else the CPU
    python scripts/benchmark_pixelcnn.py --device cpu --threads 1 --sizes 8 16 32 --networks gated plus_plus
    python scripts/benchmark_pixelcnn.py --output benchmark.json

Networks are untrained and small; images have three channels of 256 levels, from a mixture of logistic distributions.
Rounds are interleaved (kept, plain, kept, plain, …) after one that is not counted; a ratio is that of the two within
a round, then the median over rounds. The plain sampler evaluates the whole network for every pixel, and each evaluation
costs the same: of images with more than `--plain_pixels` pixels so many are timed and the time is multiplied. Beside
the factor stands how the time of the kept way grows from one size to the next, a pixel: 1 where it is linear.

Before anything is timed, both ways draw the same images from the same seeds, of the smallest size.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lightning_gen.losses.pixel_likelihoods import LogisticMixturePixels, PixelLikelihood
from lightning_gen.networks.pixel import (
    GatedPixelNetwork,
    MaskedPixelCNN,
    PixelCNNPlusPlus,
    PixelNetwork,
    PixelSNAIL,
    draw_images,
    draw_plainly,
)
from lightning_gen.noise import Noise, sample_seeds

CHANNELS = 3
NETWORKS: dict[str, Callable[..., PixelNetwork]] = {
    "masked": partial(MaskedPixelCNN, width=32, depth=6),
    "gated": partial(GatedPixelNetwork, width=32, depth=6),
    "plus_plus": partial(PixelCNNPlusPlus, width=32, depth=2, num_sizes=3),
    "snail": partial(PixelSNAIL, width=32, num_blocks=3, depth=2, value_dim=32),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[8, 16, 32], help="sides, in pixels")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plain_pixels", type=int, default=64, help="that are timed of the plain sampler")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None, help="of the CPU")
    parser.add_argument("--output", type=Path, default=None, help="a JSON file")
    return parser.parse_args()


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock time of a call, the device synchronised before and after."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


@torch.no_grad()
def evaluate(network: PixelNetwork, likelihood: PixelLikelihood, x: torch.Tensor, pixels: int) -> None:
    """What the plain sampler does for some pixels of one turn."""
    uniform = torch.full((len(x), likelihood.num_uniforms(CHANNELS)), 0.5, device=x.device)
    for pixel in range(pixels):
        row, column = divmod(pixel, x.shape[3])
        x[:, :, row, column] = likelihood.draw(network(x)[:, :, 0, row, column], uniform)


def measure(name: str, size: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of both ways, medians over rounds, and the median of their ratio."""
    torch.manual_seed(0)
    device, likelihood = torch.device(options.device), LogisticMixturePixels()
    network = NETWORKS[name]((CHANNELS, size, size), likelihood.num_parameters(CHANNELS), 1).to(device).eval()
    seeds = sample_seeds(0, torch.arange(options.batch_size)).to(device)
    if size == min(options.sizes):
        few = seeds[:2]
        a, b = (draw(network, likelihood, Noise(few)) for draw in (draw_images, draw_plainly))
        if not torch.allclose(a, b):
            raise SystemExit(f"{name}: the two ways draw different images")
    pixels = min(size * size, options.plain_pixels)
    x = torch.zeros(options.batch_size, CHANNELS, size, size, device=device)
    kept, plain = [], []
    for _ in range(options.rounds + 1):
        kept.append(seconds(lambda: draw_images(network, likelihood, Noise(seeds)), device))
        plain.append(seconds(lambda: evaluate(network, likelihood, x, pixels), device) * size * size / pixels)
    kept, plain = kept[1:], plain[1:]
    factor = statistics.median(b / a for a, b in zip(kept, plain, strict=True))
    return {"kept_s": statistics.median(kept), "plain_s": statistics.median(plain), "factor": factor}


def table(results: dict[str, dict[int, dict[str, float]]]) -> str:
    """Markdown."""
    lines = ["| network | size | kept, s | plain, s | factor | growth a pixel |", "|---|---|---|---|---|---|"]
    for name, sizes in results.items():
        before: tuple[int, float] | None = None
        for size, found in sizes.items():
            growth = "" if before is None else f"{found['kept_s'] / before[1] / (size / before[0]) ** 2:.2f}"
            kept, plain, factor = found["kept_s"], found["plain_s"], found["factor"]
            lines.append(f"| {name} | {size}×{size} | {kept:.3g} | {plain:.3g} | {factor:.1f} | {growth} |")
            before = size, found["kept_s"]
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = sorted(options.sizes)
    results = {name: {size: measure(name, size, options) for size in sizes} for name in options.networks}
    text = table(results)
    on_gpu = torch.device(options.device).type == "cuda"
    machine = torch.cuda.get_device_name() if on_gpu else f"{platform.machine()}, threads: {torch.get_num_threads()}"
    print(f"{machine}, batches of {options.batch_size}, {options.rounds} rounds\n\n{text}")
    if options.output is not None:
        content = {"machine": machine, "options": {k: str(v) for k, v in vars(options).items()}, "results": results}
        options.output.write_text(json.dumps(content | {"table": text}, indent=2))


if __name__ == "__main__":
    main()
