"""Train the MNIST classifier behind the metrics of stacked MNIST: three minutes on two CPU cores.

    python scripts/train_mnist_classifier.py --root FOLDER [--output FILE]

It is the network of the digit classifier, trained on the 60,000 training images with light distortions, so that it
knows images of 28×28 as well as those padded to 32×32; the 10,000 test images measure it. On one machine the result
depends on nothing but the seed.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.data import MNIST
from lightning_gen.metrics.extractors.digits_classifier import NUM_FEATURES, SIZE, DigitsNetwork, to_grey
from lightning_gen.metrics.extractors.stacked import PACKAGED

SEED, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 0, 128, 5e-3, 0.05


def uniform(low: float, high: float, like: Tensor) -> Tensor:
    """One number in [low, high) for each image: (B, 1)."""
    return torch.empty(len(like), 1).uniform_(low, high)


def augment(x: Tensor) -> Tensor:
    """(B, 1, H, W) uint8 to what the network sees, a little turned, sheared, scaled and shifted.

    A scale of 1 shows the image as it is, 32 pixels wide; at 0.875 its margin of 2 pixels is gone.
    """
    angle, shear, size = uniform(-0.15, 0.15, x), uniform(-0.15, 0.15, x), uniform(0.8, 1.1, x)
    cos, sin = size * angle.cos(), size * angle.sin()
    rows = [cos, size * shear - sin, uniform(-0.1, 0.1, x), sin, cos, uniform(-0.1, 0.1, x)]
    theta = torch.cat(rows, dim=1).reshape(-1, 2, 3)
    warped = F.grid_sample(x.float(), F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    return to_grey(warped)


def right(network: nn.ModuleDict, x: Tensor, y: Tensor) -> int:
    """How many of the images (N, 1, H, W) uint8 get their class."""
    network.eval()
    with torch.no_grad():
        found = [network["head"](network["body"](to_grey(part))).argmax(dim=1) for part in x.split(1000)]
    return int((torch.cat(found) == y).sum())


def main() -> None:
    """Train, measure on the test split, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default="data", help="folder that holds MNIST/raw; the files are fetched if absent")
    parser.add_argument("--output", type=Path, default=PACKAGED["mnist"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=int, help="train on the first so many images only")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    data = MNIST(root=arguments.root)
    data.prepare_data()
    train, test = ({k: torch.cat([b[k] for b in data.rows(s)]) for k in ("x", "y")} for s in ("train", "test"))
    x, y = train["x"][: arguments.limit], train["y"][: arguments.limit]
    network = nn.ModuleDict({"body": DigitsNetwork(), "head": nn.Linear(NUM_FEATURES, 10)})
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = arguments.epochs * math.ceil(len(x) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    start = time.monotonic()
    for epoch in range(arguments.epochs):
        network.train()
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = F.cross_entropy(network["head"](network["body"](augment(x[rows]))), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        wrong = len(test["y"]) - right(network, test["x"], test["y"])
        print(f"epoch {epoch + 1}  {wrong} errors  {time.monotonic() - start:.0f} s", flush=True)

    padded = right(network, test["x"], test["y"]) / len(test["y"])
    bare = right(network, test["x"][..., 2:-2, 2:-2], test["y"]) / len(test["y"])
    print(f"test accuracy {padded:.4f}, without the padding {bare:.4f}")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "test_accuracy": f"{padded:.4f}",
        "test_accuracy_28x28": f"{bare:.4f}",
        "test_images": str(len(test["y"])),
        "trained_on": f"MNIST, {len(x)} images of the training split",
        "input": f"grey, {SIZE}x{SIZE}, [0, 1]",
        "script": "scripts/train_mnist_classifier.py",
    }
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(state, arguments.output, metadata=facts)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
