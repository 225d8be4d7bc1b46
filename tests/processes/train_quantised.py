"""Train a small VQ-VAE on one or two CPU processes, in both ways of training on several; run by test_quantised.py."""

import argparse
import os
import socket
from functools import partial
from pathlib import Path

import lightning as L
import torch
from torch import nn

from lightning_gen.data import Digits
from lightning_gen.distributions.quantisers import (
    CosineVectorQuantiser,
    GradientVectorQuantiser,
    LookupFreeQuantiser,
    ResidualQuantiser,
    VectorQuantiser,
)
from lightning_gen.families import VQVAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.networks.autoencoders import MapDecoder, MapEncoder
from lightning_gen.strategies import FlatReduceStrategy

CODES = {"num_codes": 50, "dim": 3}
QUANTISERS = {
    "vector": partial(VectorQuantiser, decay=0.5, dead_after=1, **CODES),  # something dies in every step
    "cosine": partial(CosineVectorQuantiser, decay=0.5, dead_after=2, **CODES),
    "residual": partial(ResidualQuantiser, num_levels=2, decay=0.5, dead_after=1, **CODES),
    "gradient": partial(GradientVectorQuantiser, kmeans_iterations=5, **CODES),
    "lookup_free": partial(LookupFreeQuantiser, num_bits=3, entropy_weight=1.0),
}
STRATEGIES = {"ddp": lambda: "ddp", "flat_reduce": FlatReduceStrategy}
CASES = [
    ("vector", "ddp"),
    ("vector", "flat_reduce"),
    ("cosine", "flat_reduce"),
    ("residual", "ddp"),
    ("gradient", "ddp"),
    ("lookup_free", "flat_reduce"),
]


class Encoder(MapEncoder):
    """4×4 pixels become a position."""

    def __init__(self):
        super().__init__(5)
        self.layers = nn.Conv2d(1, 5, 4, 4)

    def forward(self, x, y=None):
        return self.layers(x).tanh()


class Decoder(MapDecoder):
    """And back."""

    def __init__(self, latent_dim, num_parameters):
        super().__init__(latent_dim, num_parameters)
        self.layers = nn.ConvTranspose2d(latent_dim, 1, 4, 4)

    def forward(self, z, y=None):
        return self.layers(z)[:, None]


class Recorder(L.Callback):
    """Keeps what each step says of its codes."""

    def on_train_start(self, trainer, pl_module):
        self.terms = []
        original = pl_module.loss

        def loss(batch):
            total, terms = original(batch)
            self.terms.append({name: term.detach() for name, term in terms.items() if "codebook" in name})
            return total, terms

        pl_module.loss = loss


def train(quantiser, strategy, devices, folder):
    L.seed_everything(3, verbose=False)
    sgd = partial(torch.optim.SGD, lr=0.1)
    model = VQVAE(Encoder(), Decoder, Gaussian(), sgd, [1, 16, 16], quantiser=QUANTISERS[quantiser])
    if int(os.environ.get("LOCAL_RANK", 0)):  # rank zero's state must win
        for tensor in model.state_dict().values():
            tensor.add_(1)
    recorder = Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=STRATEGIES[strategy]() if devices > 1 else "auto",
        precision="64-true",
        max_steps=3,
        log_every_n_steps=1,  # codes are counted for the log
        max_epochs=-1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[recorder],
    )
    trainer.fit(model, datamodule=Digits(image_size=16, batch_size=8 // devices))
    return {"state": {k: v.clone() for k, v in model.state_dict().items()}, "terms": recorder.terms}


def work(rank, devices, folder):
    """What one process does."""
    if devices > 1:
        os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that the processes are there already
    cases = CASES if devices > 1 else [(name, "alone") for name in QUANTISERS]
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
