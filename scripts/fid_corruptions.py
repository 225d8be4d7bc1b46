"""What a FID means: images against other images of their kind, and against themselves made worse by degrees.

    python scripts/fid_corruptions.py --images 'cifar10/train_part*.npz' --weights inception.pth --feature 768 \
        --output docs/images/fid_corruptions

The first `--num_reference` images are the reference. Compared with it are the next as many, and `--num` images from
there on, as they are and with Gaussian noise (standard deviation in grey levels, rounded and clamped), Gaussian blur
(standard deviation in pixels) and JPEG compression (PIL's quality, with its default 4:2:0 subsampling). A FID that can
be trusted rises with each. Writes a table (.md), a plot (.png) and the numbers with their protocol (.json); stopped, it
goes on where it was.
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from lightning_gen.data import ImageArrays, TensorRows
from lightning_gen.metrics import FID, InceptionV3, measure_batches
from lightning_gen.metrics.blocks import STUDENT_95

BATCH = 256


def noise(x: Tensor, sigma: float) -> Tensor:
    """Gaussian noise of `sigma` grey levels."""
    drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return (x + sigma * drawn).round().clamp(0, 255).to(torch.uint8)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels."""
    width = 2 * round(4 * sigma) + 1
    return gaussian_blur(x.float(), [width, width], [sigma, sigma]).round().clamp(0, 255).to(torch.uint8)


def jpeg(x: Tensor, quality: float) -> Tensor:
    """Compress and decompress with PIL's `quality`."""

    def once(image: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=int(quality))
        return np.asarray(Image.open(buffer))

    return torch.from_numpy(np.stack([once(image) for image in x.permute(0, 2, 3, 1).numpy()])).permute(0, 3, 1, 2)


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, ...], str]] = {
    "noise": (noise, (4, 16, 64), "σ, grey levels"),
    "blur": (blur, (0.5, 1.0, 2.0), "σ, pixels"),
    "JPEG": (jpeg, (75, 25, 10), "quality"),
}


def batches(x: Tensor) -> Iterator[dict[str, Tensor]]:
    """`x` in batches with their positions."""
    for index in torch.arange(len(x)).split(BATCH):
        yield {"x": x[index], "index": index}


class Part:
    """Some images, as a source of reference statistics."""

    def __init__(self, x: Tensor) -> None:
        self.stored = TensorRows(x)

    def rows(self, split: str, rank: int, world_size: int, batch_size: int, limit: int | None) -> Iterator[dict]:
        return batches(self.stored.tensors["x"][:limit][rank::world_size])

    def fingerprint(self, split: str, limit: int | None) -> str:
        return self.stored.fingerprint(limit)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="A pattern of .npz or .npy files of uint8 images.")
    parser.add_argument("--weights", help="Weights of the FID Inception.")
    parser.add_argument("--feature", default="2048")
    parser.add_argument("--num_reference", type=int, default=5000)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--output", required=True, help="Path without suffix.")
    args = parser.parse_args()
    x = ImageArrays(args.images).split("train")[torch.arange(2 * args.num_reference)]["x"]
    extractor = InceptionV3(args.feature, args.weights, compile=args.compile)
    fid = FID(extractor)
    fid.fit_reference(Part(x[: args.num_reference]), split="first images")
    others = x[args.num_reference :]
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    results: list[dict] = []
    if output.with_suffix(".json").exists():  # of a run that was stopped
        old = json.loads(output.with_suffix(".json").read_text())
        results = old["results"] if old["reference"] == fid.protocol()["reference"] else []

    def compare(kind: str, strength: float | None, images: Callable[[], Tensor]) -> None:
        if any((row["images"], row["strength"]) == (kind, strength) for row in results):
            return
        x = images()
        values = measure_batches(batches(x), [fid], num_samples=len(x), device="cpu")
        results.append({"images": kind, "strength": strength, "num": len(x), **values})
        print(json.dumps(results[-1]), flush=True)
        protocol = fid.protocol()
        content = {"protocol": protocol, "reference": protocol["reference"], "results": results}
        output.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")

    compare("the next images", None, lambda: others)
    few = others[: args.num]
    compare("some of them", None, lambda: few)
    for kind, (corrupt, strengths, _) in CORRUPTIONS.items():
        for strength in strengths:
            compare(kind, strength, partial(corrupt, few, strength))
    output.with_suffix(".md").write_text(table(results, fid.name))
    draw(results, fid.name, output.with_suffix(".png"))


def table(results: list[dict], name: str) -> str:
    lines = [f"| images | strength | number | `{name}` | jackknife ± 95 % |", "|---|---|---|---|---|"]
    for row in results:
        strength = "" if row["strength"] is None else f"{row['strength']:g} ({CORRUPTIONS[row['images']][2]})"
        half = STUDENT_95 * row[f"{name}_se"]
        corrected = f"{row[f'{name}_jackknife']:.4f} ± {half:.4f}"
        lines.append(f"| {row['images']} | {strength} | {row['num']:,} | {row[name]:.4f} | {corrected} |")
    return "\n".join(lines) + "\n"


def draw(results: list[dict], name: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3), layout="constrained")
    base = results[1]
    for axes, (kind, (_, strengths, unit)) in zip(figure.subplots(1, 3, sharey=True), CORRUPTIONS.items(), strict=True):
        rows = [base, *(row for row in results if row["images"] == kind)]
        half = [STUDENT_95 * row[f"{name}_se"] for row in rows]
        axes.plot(range(len(rows)), [row[name] for row in rows], marker="o", markersize=4, label="plain")
        corrected = [row[f"{name}_jackknife"] for row in rows]
        axes.errorbar(range(len(rows)), corrected, half, marker="s", markersize=3, capsize=3, label="jackknife")
        axes.set_xticks(range(len(rows)), ["none", *(f"{s:g}" for s in strengths)])
        axes.set_xlabel(f"{kind}: {unit}")
        axes.set_yscale("log")
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel(name)
    figure.axes[0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
