"""What most tests need: a small GAN on points, a quiet trainer, and nothing written outside the test's folder."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_gen.data import Ring2D
from lightning_gen.families import GAN
from lightning_gen.losses import NonSaturating
from lightning_gen.networks import MLPDiscriminator, MLPGenerator


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_GEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make_gan():
    """A function that builds a GAN on points, always with the same initial weights."""

    def build(**overrides):
        torch.manual_seed(overrides.pop("init_seed", 0))
        adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9))
        parts = {
            "generator": MLPGenerator(latent_dim=4, width=16, depth=2),
            "discriminator": MLPDiscriminator(width=16, depth=2),
            "loss": NonSaturating(),
            "generator_optimizer": adam,
            "discriminator_optimizer": adam,
        }
        return GAN(**parts | overrides)

    return build


@pytest.fixture
def make_ring():
    """A function that builds a small set of points on a ring."""
    return partial(Ring2D, num_samples=160, num_val=16, batch_size=8)


@pytest.fixture
def make_trainer(tmp_path):
    """A function that builds a quiet trainer on the CPU from callbacks and options."""

    def build(*callbacks, **options):
        defaults = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks),
            "default_root_dir": tmp_path,
            "max_epochs": -1,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
        }
        return Trainer(callbacks=list(callbacks), **defaults | options)

    return build
