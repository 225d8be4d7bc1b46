"""Estimate densities on one or two CPU processes; run by test_density_baselines.py."""

import argparse
import os
import socket
from functools import partial
from pathlib import Path

import lightning as L
import torch

from lightning_gen.data import Digits, Ring2D
from lightning_gen.densities import (
    DiagonalCovariance,
    DirichletCategorical,
    ExpectationMaximisation,
    FactorAnalysis,
    GradientDescent,
    NormalMixtureDensity,
)
from lightning_gen.families import DensityBaseline
from lightning_gen.strategies import FlatReduceStrategy

RING = partial(Ring2D, num_samples=29, num_val=8, std=0.2)  # 5 samples fill no step of 8
MIXTURE = partial(NormalMixtureDensity, num_components=3)
SGD = partial(torch.optim.SGD, lr=0.1)
MODELS = {
    "full": partial(DensityBaseline, [2], MIXTURE),
    "factors": partial(DensityBaseline, [2], partial(MIXTURE, covariance=partial(FactorAnalysis, rank=1))),
    "classes": partial(
        DensityBaseline,
        [2],
        partial(NormalMixtureDensity, num_components=2, covariance=DiagonalCovariance),
        num_classes=8,
    ),
    "counts": partial(DensityBaseline, [1, 8, 8], partial(DirichletCategorical, levels=17), num_classes=10),
    "gradient": partial(DensityBaseline, [2], MIXTURE),
}
STRATEGIES = {"ddp": lambda: "ddp", "flat_reduce": FlatReduceStrategy}
CASES = [("full", "ddp"), ("full", "flat_reduce"), ("factors", "ddp"), ("classes", "ddp"), ("counts", "ddp")]
CASES += [("gradient", "ddp")]


def train(name, strategy, devices, folder):
    L.seed_everything(3, verbose=False)
    model = MODELS[name](estimator=GradientDescent(SGD) if name == "gradient" else ExpectationMaximisation())
    if int(os.environ.get("LOCAL_RANK", 0)):  # rank zero's state must win
        for parameter in model.parameters():
            parameter.data.add_(1)
    counts = name == "counts"
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=STRATEGIES[strategy]() if devices > 1 else "auto",
        precision="64-true",
        max_epochs=1 if counts else 4,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    data = Digits(image_size=8, batch_size=500 // devices) if counts else RING(batch_size=8 // devices)
    trainer.fit(model, datamodule=data)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    return {"state": state, "steps": trainer.global_step, "world_size": trainer.world_size}


def work(rank, devices, folder):
    """What one process does."""
    if devices > 1:
        os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that the processes are there already
    cases = CASES if devices > 1 else [(name, "alone") for name in MODELS]
    records = {f"{name}-{way}": train(name, way, devices, folder) for name, way in cases}
    torch.save(records, folder / f"devices={devices}-rank={rank}.pt")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    for devices in (1, 2):  # forked, since importing takes longer than training
        torch.multiprocessing.start_processes(work, (devices, folder), nprocs=devices, start_method="fork")


if __name__ == "__main__":
    main()
