"""How much a training step costs under `fit`, against the same step written by hand in plain PyTorch.

    python scripts/benchmark_step.py                                   # the GPU if there is one, else the CPU
    python scripts/benchmark_step.py --device cpu --rounds 5 --steps 20
    python scripts/benchmark_step.py --precision bf16-mixed --output benchmark.json

Every arm trains the same DCGAN with the same losses, optimisers and averaging on 50,000 uint8 images of noise. Rounds
are interleaved (A B C D E, A B C D E, …), each from fresh networks, after one of a single step that is not counted. A
round's time is that from the end of its last warm-up step to the end of its last step, the device synchronised at both.
Ratios are those of two arms within a round, then the median over rounds.

(a) The step. Both arms read one uint8 tensor in memory. `fit, bare` has averaging alone; `fit, as users run it` adds
    what the command adds: progress bar, TensorBoard, FiniteGuard, Throughput.
(b) End to end. The data module of this package (in memory, mirrored and converted on the device), against a loop fed as
    torchvision's CIFAR10 feeds one: PIL images, ToTensor, RandomHorizontalFlip, Normalize, a DataLoader with 2 workers.

Memory is the peak of a process of its own for each arm: the allocator's on a GPU, resident memory on the CPU.
"""

import argparse
import contextlib
import copy
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.functional import softplus

from lightning_gen.callbacks import EMA, FiniteGuard, StepProgressBar, Throughput
from lightning_gen.data import DataModule, Images, Rows, TensorRows
from lightning_gen.families import GAN
from lightning_gen.losses import NonSaturating
from lightning_gen.networks import DCGANDiscriminator, DCGANGenerator

BARS = {"step": 1.05, "throughput": 1.3}
NUM_IMAGES = 50_000
DECAY = 0.999
LATENT_DIM = 128


# ---------------------------------------------------------------- what all arms share


def images(size: int) -> Tensor:
    """(50000, 3, size, size) uint8 noise."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (NUM_IMAGES, 3, size, size), dtype=torch.uint8, generator=generator)


def networks(options: argparse.Namespace) -> tuple[DCGANGenerator, DCGANDiscriminator]:
    """Fresh networks, the same in every arm."""
    torch.manual_seed(0)
    size, width = options.image_size, options.width
    return DCGANGenerator(size, 3, LATENT_DIM, width), DCGANDiscriminator(size, 3, width)


adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


class Clock:
    """Time from the end of step `first` to the end of step `last`, counted from 1."""

    def __init__(self, first: int, last: int, device: torch.device) -> None:
        self.first, self.last, self.device = first, last, device
        self.step, self.seconds = 0, float("nan")

    def tick(self) -> None:
        """A step has ended."""
        self.step += 1
        if self.step in (self.first, self.last):
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            if self.step == self.first:
                self.start = time.perf_counter()
            else:
                self.seconds = time.perf_counter() - self.start


# ---------------------------------------------------------------- the loop by hand


def train_plainly(batches: Iterator[Tensor], clock: Clock, options: argparse.Namespace) -> None:
    """The step of Goodfellow et al. with a non-saturating loss, as one would write it for one experiment."""
    device = clock.device
    generator, discriminator = (network.to(device) for network in networks(options))
    g_optimizer, d_optimizer = adam(generator.parameters()), adam(discriminator.parameters())
    average = copy.deepcopy(generator).requires_grad_(False)
    pairs = list(average.parameters()), list(generator.parameters())
    buffers = list(average.buffers()), list(generator.buffers())
    half = partial(torch.autocast, device.type, torch.bfloat16, enabled=options.precision == "bf16-mixed")

    for x in batches:
        d_optimizer.zero_grad()
        with half():
            with torch.no_grad():
                fake = generator(torch.randn(len(x), LATENT_DIM, device=device))
            real_scores, fake_scores = discriminator(x).scores.float(), discriminator(fake).scores.float()
        (softplus(-real_scores).mean() + softplus(fake_scores).mean()).backward()
        d_optimizer.step()

        discriminator.requires_grad_(False)
        g_optimizer.zero_grad()
        with half():
            fake_scores = discriminator(generator(torch.randn(len(x), LATENT_DIM, device=device))).scores.float()
        softplus(-fake_scores).mean().backward()
        g_optimizer.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            torch._foreach_lerp_(*pairs, 1 - DECAY)
            torch._foreach_copy_(*buffers)
        clock.tick()
        if clock.step == clock.last:
            return


def batches_in_memory(x: Tensor, device: torch.device, batch_size: int) -> Iterator[Tensor]:
    """Shuffled batches gathered from one tensor, converted on the device."""
    pin = device.type == "cuda"
    while True:
        order = torch.randperm(len(x))
        for index in order[: len(x) // batch_size * batch_size].split(batch_size):
            target = torch.empty(batch_size, *x.shape[1:], dtype=torch.uint8, pin_memory=pin)
            torch.index_select(x, 0, index, out=target)
            yield target.to(device, non_blocking=True).float().div_(127.5).sub_(1)


class TorchvisionLike(torch.utils.data.Dataset):
    """As torchvision.datasets.CIFAR10 with the usual transforms: an array of (H, W, C), one PIL image at a time."""

    def __init__(self, x: Tensor) -> None:
        from torchvision import transforms

        self.data = x.permute(0, 2, 3, 1).contiguous().numpy()
        normalise = transforms.Normalize([0.5] * 3, [0.5] * 3)
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.RandomHorizontalFlip(), normalise])

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.data[index])), 0


def batches_from_workers(x: Tensor, device: torch.device, batch_size: int) -> Iterator[Tensor]:
    """What torchvision's users write."""
    loader = torch.utils.data.DataLoader(
        TorchvisionLike(x),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    while True:
        for batch, _ in loader:
            yield batch.to(device, non_blocking=True)


# ---------------------------------------------------------------- fit


class InMemory(DataModule):
    """A tensor as a source of data."""

    modality = Images()

    @classmethod
    def of(cls, x: Tensor, flip: bool, batch_size: int) -> "InMemory":
        """Not an argument: those are copied, as settings to be saved."""
        data = cls(batch_size=batch_size)
        data._rows, data.flip = TensorRows(x), flip
        return data

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(3, H, W)."""
        return self._rows.shape

    @property
    def splits(self) -> tuple[str, ...]:
        """Training only."""
        return ("train",)

    def load_split(self, name: str) -> Rows:
        return self._rows


class Ticker(L.Callback):
    """Ends the clock's steps with those of the trainer."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_end(self, *_: Any) -> None:
        """Tick."""
        self.clock.tick()


def train_by_fit(x: Tensor, clock: Clock, options: argparse.Namespace, usual: bool, flip: bool, last: bool) -> None:
    """`Trainer.fit` without validation and checkpoints; `usual` adds what the command adds to every run."""
    model = GAN(*networks(options), NonSaturating(), adam, adam, channels_last=last)
    added = [FiniteGuard(), StepProgressBar(), Throughput()] if usual else []
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=clock.device.type,
            devices=1,
            precision=options.precision,
            max_steps=clock.last,
            max_epochs=-1,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=usual,
            logger=L.pytorch.loggers.TensorBoardLogger(folder) if usual else False,
            callbacks=[EMA(["generator"], DECAY), *added, Ticker(clock)],
            default_root_dir=folder,
        )
        trainer.fit(model, InMemory.of(x, flip, options.batch_size))


# ---------------------------------------------------------------- arms and rounds

Arm = Callable[[Tensor, Clock, argparse.Namespace], None]


def by_hand(feed: Callable[[Tensor, torch.device, int], Iterator[Tensor]]) -> Arm:
    """The plain loop on `feed`."""
    return lambda x, clock, options: train_plainly(feed(x, clock.device, options.batch_size), clock, options)


def by_fit(usual: bool, flip: bool, channels_last: bool = False) -> Arm:
    """The trainer."""
    return lambda x, clock, options: train_by_fit(x, clock, options, usual, flip, channels_last)


ARMS: dict[str, tuple[str, Arm]] = {
    "plain": ("(a) plain loop, in memory", by_hand(batches_in_memory)),
    "fit_bare": ("(a) fit, bare", by_fit(usual=False, flip=False)),
    "fit": ("(a) fit, as users run it", by_fit(usual=True, flip=False)),
    "plain_workers": ("(b) plain loop, torchvision and 2 workers", by_hand(batches_from_workers)),
    "fit_data": ("(b) fit, as users run it", by_fit(usual=True, flip=True)),
    "fit_last": ("(b) fit, as users run it, `channels_last: true`", by_fit(usual=True, flip=True, channels_last=True)),
}
COMPARED = {
    "fit_bare": ("plain", "step"),
    "fit": ("plain", "step"),
    "fit_data": ("plain_workers", "throughput"),
    "fit_last": ("plain_workers", "throughput"),
}


def run_arm(name: str, x: Tensor, options: argparse.Namespace, steps: int) -> float:
    """Seconds a step in one round."""
    clock = Clock(options.warmup, options.warmup + steps, torch.device(options.device))
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        ARMS[name][1](x, clock, options)
    return clock.seconds / steps


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
    words = [f"--{key}={value}" for key, value in vars(options).items() if key not in ("arm", "output")]
    command = [sys.executable, __file__, *words, f"--arm={name}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All arms, interleaved."""
    x = images(options.image_size)
    for name in ARMS:  # what happens once in a process is nobody's
        run_arm(name, x, options, steps=1)
    seconds: dict[str, list[float]] = {name: [] for name in ARMS}
    for k in range(options.rounds):
        for name in ARMS:
            seconds[name].append(run_arm(name, x, options, options.steps))
        print(f"round {k + 1} of {options.rounds}", file=sys.stderr)
    results: dict[str, Any] = {}
    for name in ARMS:
        results[name] = {
            "seconds": seconds[name],
            "median": statistics.median(seconds[name]),
            "peak_memory_mib": memory_of(name, options),
        }
        if name in COMPARED:
            other, kind = COMPARED[name]
            pairs = list(zip(seconds[name], seconds[other], strict=True))
            ratios = [a / b if kind == "step" else b / a for a, b in pairs]
            results[name] |= {"ratio": statistics.median(ratios), "ratios": ratios, "kind": kind, "to": other}
    return results


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """What was measured on what."""
    cuda = options.device == "cuda"
    return {
        "settings": {key: value for key, value in vars(options).items() if key not in ("arm", "output")},
        "torch": torch.__version__,
        "lightning": L.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {torch.get_num_threads()} threads",
        "bars": BARS,
    }


def table(results: dict[str, Any], batch_size: int) -> str:
    """Markdown."""
    lines = [
        "| arm | ms a step | samples a second | peak memory, MiB | ratio (least to most) | bar |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, (title, _) in ARMS.items():
        row = results[name]
        ratio = bar = ""
        if "ratio" in row:
            sign = "≤" if row["kind"] == "step" else "≥"
            what = "time" if row["kind"] == "step" else "throughput"
            ratio = f"{what} × {row['ratio']:.3f} ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})"
            bar = f"{sign} {BARS[row['kind']]}"
        speed = batch_size / row["median"]
        memory = row["peak_memory_mib"]
        lines.append(f"| {title} | {1e3 * row['median']:.2f} | {speed:,.0f} | {memory:,.0f} | {ratio} | {bar} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print a Markdown table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all arms")
    parser.add_argument("--steps", type=int, default=200, help="timed steps of a round")
    parser.add_argument("--warmup", type=int, default=20, help="steps before them, at least 1")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--output", default="benchmark_step.json", help="the JSON file")
    parser.add_argument("--arm", choices=tuple(ARMS), help="print the peak memory of this arm alone, in MiB")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_float32_matmul_precision("highest")  # as the command does
    if options.arm:
        run_arm(options.arm, images(options.image_size), options, steps=min(options.steps, 20))
        print(peak_memory(options.device))
        return
    results = measure(options)
    text = table(results, options.batch_size)
    content = describe(options) | {"results": results, "table": text}
    Path(options.output).write_text(json.dumps(content, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
