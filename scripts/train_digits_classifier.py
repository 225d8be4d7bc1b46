"""Train the digit classifier behind FID_digits and IS_digits: about a minute on two CPU cores.

    python scripts/train_digits_classifier.py [--output FILE]

It sees the training split of scikit-learn's digits only, in many distorted copies, so that digits drawn by other hands,
pens and resolutions keep their meaning; the held-out split measures it. The result depends on nothing but the seed.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.data import Digits
from lightning_gen.metrics.extractors.digits_classifier import NUM_FEATURES, SIZE, WEIGHTS, DigitsNetwork, to_grey

SEED, EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 0, 100, 64, 3e-3, 0.05


def between(low: float, high: float, like: Tensor) -> Tensor:
    """One uniform number in [low, high) for each image: (B, 1, 1, 1)."""
    return torch.empty(len(like), 1, 1, 1).uniform_(low, high)


def sometimes(probability: float, changed: Tensor, x: Tensor) -> Tensor:
    """`changed` for a random share of the images, `x` for the others."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < probability, changed, x)


def warp(x: Tensor) -> Tensor:
    """Rotate, shear, scale (digits of MNIST fill less of their image) and shift."""
    angle, shear = between(-0.25, 0.25, x), between(-0.3, 0.3, x)
    size = between(0.9, 1.6, x)
    wide, high = size * between(0.75, 1.2, x), size
    cos, sin = angle.cos(), angle.sin()
    rows = [wide * cos, wide * (shear - sin), between(-0.2, 0.2, x), high * sin, high * cos, between(-0.2, 0.2, x)]
    theta = torch.cat(rows, dim=1).reshape(-1, 2, 3)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def restroke(x: Tensor) -> Tensor:
    """Thicken or thin the strokes, and sharpen their edges as a binary pen would."""
    x = sometimes(0.35, F.max_pool2d(x, 3, stride=1, padding=1), x)
    x = sometimes(0.2, -F.max_pool2d(-x, 3, stride=1, padding=1), x)
    steep, middle = between(3.0, 12.0, x), between(0.25, 0.6, x)
    return sometimes(0.5, torch.sigmoid(steep * (x - middle)) - torch.sigmoid(-steep * middle), x).clamp(0, 1)


def degrade(x: Tensor) -> Tensor:
    """Another resolution for the whole batch, blur and noise."""
    size = int(torch.randint(10, 33, ()))
    small = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    x = sometimes(0.5, F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False), x)
    x = sometimes(0.3, F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False), x)
    return x * between(0.7, 1.0, x) + sometimes(0.3, between(0.0, 0.04, x) * torch.randn_like(x), torch.zeros_like(x))


def augment(x: Tensor) -> Tensor:
    """(B, 1, H, W) uint8 to what the network sees, distorted."""
    return to_grey((degrade(restroke(warp(x.float() / 255))).clamp(0, 1) * 255).round().to(torch.uint8))


def main() -> None:
    """Train, measure on the held-out split, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    output = parser.parse_args().output
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)

    data = Digits(image_size=32)
    train, held_out = ({k: torch.cat([b[k] for b in data.rows(s)]) for k in ("x", "y")} for s in ("train", "val"))
    network = nn.ModuleDict({"body": DigitsNetwork(), "head": nn.Linear(NUM_FEATURES, 10)})
    steps = EPOCHS * math.ceil(len(train["x"]) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(train["x"])).split(BATCH_SIZE):
            logits = network["head"](network["body"](augment(train["x"][rows])))
            loss = F.cross_entropy(logits, train["y"][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3d}  loss {total / len(train['x']):.4f}", flush=True)

    network.eval()
    with torch.no_grad():
        predicted = network["head"](network["body"](to_grey(held_out["x"]))).argmax(dim=1)
    right, count = int((predicted == held_out["y"]).sum()), len(predicted)
    print(f"held-out accuracy {right / count:.4f} ({right} of {count})")
    output.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "held_out_accuracy": f"{right / count:.4f}",
        "held_out_images": str(count),
        "trained_on": f"scikit-learn digits, {len(train['x'])} images of the training split",
        "input": f"grey, {SIZE}x{SIZE}, [0, 1]",
        "script": "scripts/train_digits_classifier.py",
    }
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, output, metadata=facts)
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
