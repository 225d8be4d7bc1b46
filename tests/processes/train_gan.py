"""Train a small GAN on one or several CPU processes and write what each rank ended with; run by test_processes.py."""

import argparse
import functools
import os

import lightning as L
import torch

from lightning_gen.callbacks import EMA, Evaluation
from lightning_gen.data import Digits
from lightning_gen.families import GAN
from lightning_gen.losses import R1, NonSaturating
from lightning_gen.metrics import FID, DigitsClassifier, InceptionScore
from lightning_gen.networks import DCGANDiscriminator, DCGANGenerator
from lightning_gen.strategies import FlatReduceStrategy

WIDTH, LATENT = 4, 8


class SharedNoiseGAN(GAN):
    """Gives row *i* of the global batch the same latent for any number of processes."""

    calls = 0

    def _latents(self, real):
        self.calls += 1
        world = self.trainer.world_size
        generator = torch.Generator().manual_seed(1000 * self.global_step + self.calls)
        z = torch.randn(len(real) * world, LATENT, generator=generator, dtype=torch.float64)
        return z[self.global_rank :: world].to(real.dtype)


class Recorder(L.Callback):
    """Keeps the noise that each step really uses."""

    def __init__(self):
        self.noise = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.noise.append(GAN._latents(pl_module, torch.zeros(4, 1)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--num_critic_steps", type=int, default=2)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--num_samples", type=int, default=301)
    parser.add_argument("--clip", type=float, default=0.5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    L.seed_everything(3, verbose=False)
    adam = functools.partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9))
    model = SharedNoiseGAN(
        DCGANGenerator(32, 1, LATENT, WIDTH, num_classes=10, batch_norm=False),
        DCGANDiscriminator(32, 1, WIDTH, num_classes=10, batch_norm=False),
        NonSaturating(),
        adam,
        adam,
        penalties=[R1(gamma=1.0, interval=2)],
        num_critic_steps=args.num_critic_steps,
        accumulate_grad_batches=args.accumulate,
        gradient_clip_val=args.clip,
    )
    if int(os.environ.get("LOCAL_RANK", 0)):  # rank zero's weights must win
        for parameter in model.parameters():
            parameter.data.add_(1.0)
    ema, recorder = EMA(["generator"], decay=0.9), Recorder()
    evaluation = Evaluation(
        DigitsClassifier(), [FID, InceptionScore], num_samples=args.num_samples, batch_size=100, cache_dir=args.output
    )
    trainer = L.Trainer(
        accelerator="cpu",
        devices=args.devices,
        strategy=FlatReduceStrategy() if args.devices > 1 else "auto",
        precision="64-true",
        max_steps=args.steps,
        max_epochs=-1,
        val_check_interval=args.steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=args.output,
        callbacks=[ema, recorder, evaluation],
    )
    trainer.fit(model, datamodule=Digits(image_size=32, batch_size=16 // args.devices))
    torch.save(
        {
            "state": model.state_dict(),
            "averaged": ema.averaged,
            "noise": recorder.noise,
            "metrics": {k: float(v) for k, v in trainer.callback_metrics.items() if "digits" in k},
            "world_size": trainer.world_size,
        },
        f"{args.output}/devices={args.devices}-rank={trainer.global_rank}.pt",
    )


if __name__ == "__main__":
    main()
