"""Train small SNGANs and WGAN-GPs and keep what it takes to replay them; used, and run, by tests/test_parity.py."""

import os
import socket
import sys
from functools import partial
from itertools import product
from pathlib import Path

import lightning as L
import torch

from lightning_gen.data import Digits
from lightning_gen.families import GAN
from lightning_gen.losses import GradientPenalty, Hinge, Wasserstein
from lightning_gen.networks import ResNetDiscriminator, ResNetGenerator
from lightning_gen.strategies import FlatReduceStrategy

LATENT_DIM, BATCH_SIZE, STEPS = 6, 3, 2
CASES = list(product(("sngan", "wgan_gp"), (1, 5), (1, 4)))  # recipe, critic updates a step, batches an update
RECIPES = {
    "sngan": lambda: (ResNetDiscriminator(16, 1, 4), Hinge(), []),
    "wgan_gp": lambda: (
        ResNetDiscriminator(16, 1, 4, spectral_norm=False, pooling="mean"),
        Wasserstein(),
        [GradientPenalty(10.0)],
    ),
}
# a large ε, since Adam would hardly notice a gradient of another length otherwise
ADAM = partial(torch.optim.Adam, lr=0.005, betas=(0.5, 0.9), eps=0.1)
LINEAR = partial(torch.optim.lr_scheduler.LinearLR, start_factor=1.0, end_factor=0.0, total_iters=4)


class Recorder(L.Callback):
    """Keeps the weights before training and after it, and what each step saw and gave."""

    def on_train_start(self, trainer, pl_module):
        self.kept = {"before": state(pl_module), "seed": pl_module.seed, "batches": [], "terms": []}
        self.kept["parameters"] = [name for name, _ in pl_module.named_parameters()]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.kept["batches"].append(batch["x"])
        self.kept["terms"].append(outputs)

    def on_train_end(self, trainer, pl_module):
        self.kept["after"] = state(pl_module)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def train(recipe, num_critic_steps, accumulate, folder, **options):
    """What a run of one case keeps."""
    L.seed_everything(3, verbose=False)
    discriminator, loss, penalties = RECIPES[recipe]()
    model = GAN(
        ResNetGenerator(16, 1, LATENT_DIM, 4),
        discriminator,
        loss,
        ADAM,
        ADAM,
        penalties,
        generator_scheduler=LINEAR,
        discriminator_scheduler=LINEAR,
        num_critic_steps=num_critic_steps,
        accumulate_grad_batches=accumulate,
    )
    for parameter in model.parameters():  # biases that start at 0 could be left out unnoticed
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn(len(parameter)), alpha=0.1)
    if int(os.environ.get("LOCAL_RANK", 0)):  # rank zero's weights must win
        for parameter in model.parameters():
            parameter.data.add_(1.0)
    recorder = Recorder()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_steps=STEPS,
        max_epochs=-1,
        limit_val_batches=0,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[recorder],
        **quiet,
        **options,
    )
    trainer.fit(model, datamodule=Digits(image_size=16, batch_size=BATCH_SIZE))
    return recorder.kept


def work(rank, folder):
    """What one of two processes does."""
    os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning that the processes are there already
    records = [train(*case, folder, devices=2, strategy=FlatReduceStrategy()) for case in CASES]
    torch.save(records, folder / f"rank={rank}.pt")


def main():
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    # forked, since importing takes longer than training
    torch.multiprocessing.start_processes(work, (Path(sys.argv[1]),), nprocs=2, start_method="fork")


if __name__ == "__main__":
    main()
