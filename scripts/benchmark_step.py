"""How much a training step costs under `fit`, against the same step written by hand in plain PyTorch.

    python scripts/benchmark_step.py                                   # the GPU if there is one, else the CPU
    python scripts/benchmark_step.py --device cpu --rounds 5 --steps 20
    python scripts/benchmark_step.py --precision bf16-mixed --output benchmark.json
    python scripts/benchmark_step.py --recipe sngan --channels_last --phases 20

Every arm trains the same networks with the same losses, optimisers and averaging on 50,000 uint8 images of noise: a
DCGAN, or with `--recipe` an SNGAN or a conditional BigGAN, which update the critic five times a step, DDPM's U-Net, or
the fully connected VAE of 784-400-16 units and flow matching of 8×8 pixels (these loops show more than any other what
the trainer itself costs). Rounds are
interleaved (A B C D E, A B C D E, …), each from fresh networks, after one of a single step that is not counted. A
round's time is that from the end of its last warm-up step to the end of its last step, the device synchronised at both.
Ratios are those of two arms within a round, then the median over rounds.

(a) The step. Both arms read one uint8 tensor in memory. `fit, bare` has averaging alone; `fit, as users run it` adds
    what the command adds: progress bar, TensorBoard, FiniteGuard, Throughput.
(b) End to end, of the DCGAN. The data module of this package (in memory, mirrored and converted on the device), against
    a loop fed as torchvision's CIFAR10 feeds one: PIL images, ToTensor, RandomHorizontalFlip, Normalize, a DataLoader
    with 2 workers.

Memory is the peak of a process of its own for each arm: the allocator's on a GPU, resident memory on the CPU. With
`--phases` it is also measured, apart from the rounds, where the time of a step under `fit` goes.
"""

import argparse
import contextlib
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from benchmark_step_phases import Phases
from benchmark_step_recipes import NUM_CLASSES, RECIPES, Clock, Feed, players
from torch import Tensor

from lightning_gen.callbacks import EMA, FiniteGuard, StepProgressBar, Throughput
from lightning_gen.data import DataModule, Images, Rows, TensorRows

BARS = {"step": 1.05, "throughput": 1.3}
NUM_IMAGES = 50_000


# ---------------------------------------------------------------- what all arms share


def images(options: argparse.Namespace) -> TensorRows:
    """50,000 images of uint8 noise, with classes where the recipe has them."""
    generator = torch.Generator().manual_seed(0)
    size, recipe = options.image_size, RECIPES[options.recipe]
    x = torch.randint(256, (NUM_IMAGES, recipe.shape[0], size, size), dtype=torch.uint8, generator=generator)
    if recipe.binary:
        x = (x // 128) * 255
    if not recipe.conditional:
        return TensorRows(x)
    return TensorRows(x, torch.randint(NUM_CLASSES, (NUM_IMAGES,), generator=generator))


# ---------------------------------------------------------------- what feeds the loop by hand


def batches_in_memory(rows: TensorRows, device: torch.device, batch_size: int) -> Feed:
    """Shuffled batches gathered from one tensor, converted on the device."""
    pin = device.type == "cuda"
    x, y = rows.tensors["x"], rows.y
    while True:
        order = torch.randperm(len(x))
        for index in order[: len(x) // batch_size * batch_size].split(batch_size):
            target = torch.empty(batch_size, *x.shape[1:], dtype=torch.uint8, pin_memory=pin)
            torch.index_select(x, 0, index, out=target)
            classes = None if y is None else y[index].to(device, non_blocking=True)
            yield target.to(device, non_blocking=True).float().div_(127.5).sub_(1), classes


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


def batches_from_workers(rows: TensorRows, device: torch.device, batch_size: int) -> Feed:
    """What torchvision's users write."""
    loader = torch.utils.data.DataLoader(
        TorchvisionLike(rows.tensors["x"]),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        pin_memory=device.type == "cuda",
        persistent_workers=True,
    )
    while True:
        for batch, _ in loader:
            yield batch.to(device, non_blocking=True), None


# ---------------------------------------------------------------- fit


class InMemory(DataModule):
    """Rows as a source of data."""

    modality = Images()

    @classmethod
    def of(cls, rows: TensorRows, flip: bool, batch_size: int) -> "InMemory":
        """Not an argument: those are copied, as settings to be saved."""
        data = cls(batch_size=batch_size)
        data._rows, data.flip = rows, flip
        return data

    @property
    def num_classes(self) -> int | None:
        """None, or 10."""
        return None if self._rows.y is None else NUM_CLASSES

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


def train_by_fit(
    rows: TensorRows,
    clock: Clock,
    options: argparse.Namespace,
    usual: bool,
    flip: bool,
    last: bool,
    prepare: Callable[[Any], None] = lambda model: None,
) -> None:
    """`Trainer.fit` without validation and checkpoints; `usual` adds what the command adds to every run."""
    recipe = RECIPES[options.recipe]
    model = recipe.model(players(options), last or options.channels_last)
    prepare(model)
    averaging = [] if recipe.decay is None else [EMA([recipe.averaged], recipe.decay)]
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
            callbacks=[*averaging, *added, Ticker(clock)],
            default_root_dir=folder,
        )
        trainer.fit(model, InMemory.of(rows, flip, options.batch_size))


# ---------------------------------------------------------------- arms and rounds

Arm = Callable[[TensorRows, Clock, argparse.Namespace], None]


def by_hand(feed: Callable[[TensorRows, torch.device, int], Feed]) -> Arm:
    """The plain loop on `feed`."""

    def train(rows: TensorRows, clock: Clock, options: argparse.Namespace) -> None:
        RECIPES[options.recipe].train_plainly(feed(rows, clock.device, options.batch_size), clock, options)

    return train


def by_fit(usual: bool, flip: bool, channels_last: bool = False) -> Arm:
    """The trainer."""
    return lambda rows, clock, options: train_by_fit(rows, clock, options, usual, flip, channels_last)


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


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing on the screen."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
        yield


def run_arm(name: str, rows: TensorRows, options: argparse.Namespace, steps: int) -> float:
    """Seconds a step in one round."""
    clock = Clock(options.warmup, options.warmup + steps, torch.device(options.device))
    with silence():
        ARMS[name][1](rows, clock, options)
    return clock.seconds / steps


def run_phases(rows: TensorRows, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step under `fit`, as users run it, in each of its phases."""
    phases = Phases(options.warmup, options.warmup + options.phases, torch.device(options.device))
    with silence():
        train_by_fit(rows, phases, options, usual=True, flip=False, last=False, prepare=phases.watch)
    return {name: seconds / options.phases for name, seconds in phases.taken.items()}


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
    words = [
        f"--{key}={value}" for key, value in vars(options).items() if key not in ("arm", "output", "channels_last")
    ]
    words += ["--channels_last"] if options.channels_last else []
    command = [sys.executable, __file__, *words, f"--arm={name}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All arms, interleaved."""
    rows, arms = images(options), RECIPES[options.recipe].arms
    for name in arms:  # what happens once in a process is nobody's
        run_arm(name, rows, options, steps=1)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for k in range(options.rounds):
        for name in arms:
            seconds[name].append(run_arm(name, rows, options, options.steps))
        print(f"round {k + 1} of {options.rounds}", file=sys.stderr)
    results: dict[str, Any] = {}
    for name in arms:
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


def table(results: dict[str, Any], images_a_step: int) -> str:
    """Markdown."""
    lines = [
        "| arm | ms a step | samples a second | peak memory, MiB | ratio (least to most) | bar |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, row in results.items():
        ratio = bar = ""
        if "ratio" in row:
            sign = "≤" if row["kind"] == "step" else "≥"
            what = "time" if row["kind"] == "step" else "throughput"
            ratio = f"{what} × {row['ratio']:.3f} ({min(row['ratios']):.3f} to {max(row['ratios']):.3f})"
            bar = f"{sign} {BARS[row['kind']]}"
        speed = images_a_step / row["median"]
        memory = row["peak_memory_mib"]
        lines.append(
            f"| {ARMS[name][0]} | {1e3 * row['median']:.2f} | {speed:,.0f} | {memory:,.0f} | {ratio} | {bar} |"
        )
    return "\n".join(lines)


def phase_table(seconds: dict[str, float]) -> str:
    """Markdown; the device is synchronised between phases, so that they add up to more than an undisturbed step."""
    lines = ["| phase of a step | ms | share |", "|---|---:|---:|"]
    total = sum(seconds.values())
    lines += [f"| {name} | {1e3 * part:.2f} | {part / total:.1%} |" for name, part in seconds.items()]
    return "\n".join([*lines, f"| all | {1e3 * total:.2f} | {1:.1%} |"])


def parse() -> argparse.Namespace:
    """The options, with what the recipe says where nothing was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="dcgan")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of all arms")
    parser.add_argument("--steps", type=int, default=200, help="timed steps of a round")
    parser.add_argument("--warmup", type=int, default=20, help="steps before them, at least 1")
    parser.add_argument("--phases", type=int, default=0, help="steps of which phases are timed; 0 leaves that out")
    parser.add_argument("--batch_size", type=int, help="images of an update; 64 dcgan, 128 vae, flow_matching, else 16")
    parser.add_argument("--image_size", type=int, help="28 for vae, 8 for flow_matching, else 32")
    parser.add_argument("--width", type=int, help="256 sngan, flow_matching, 96 biggan, 400 vae, else 64")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--channels_last", action="store_true", help="keep weights of convolutions channels last")
    parser.add_argument("--output", default="benchmark_step.json", help="the JSON file")
    parser.add_argument("--arm", choices=tuple(ARMS), help="print the peak memory of this arm alone, in MiB")
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    for key, usual in (("batch_size", recipe.batch_size), ("width", recipe.width), ("image_size", recipe.shape[1])):
        if getattr(options, key) is None:
            setattr(options, key, usual)
    return options


def main() -> None:
    """Measure, print Markdown tables, write JSON."""
    options = parse()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_float32_matmul_precision("highest")  # as the command does
    if options.arm:
        run_arm(options.arm, images(options), options, steps=min(options.steps, 20))
        print(peak_memory(options.device))
        return
    results = measure(options)
    text = table(results, options.batch_size * RECIPES[options.recipe].num_critic_steps)
    content = describe(options) | {"results": results, "table": text}
    if options.phases:
        content["phases"] = run_phases(images(options), options)
        text = f"{text}\n\n{phase_table(content['phases'])}"
    Path(options.output).write_text(json.dumps(content, indent=2) + "\n")
    print(text)


if __name__ == "__main__":
    main()
