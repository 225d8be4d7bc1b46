"""Every recipe takes a step, on few rows of data of the right shape; those meant for a GPU with narrower networks."""

import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from lightning_gen.callbacks import EMA, Anneal
from lightning_gen.checkpoints import instantiate
from lightning_gen.model import GenerativeModel

sys.path.append(str(Path(__file__).parent))
from recipes import RECIPES, settings_of, small

TRAINED = {"generator", "discriminator", "encoder", "decoder", "network", "flow"}
LARGE = {"gan": ("cifar10", "folder")}  # of other families those of MNIST, too


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_step(recipe, tmp_path):
    large = recipe.stem.endswith(LARGE.get(recipe.parent.name, ("cifar10", "folder", "mnist")))
    settings = settings_of(recipe, tmp_path, narrower=large)
    torch.manual_seed(0)
    model = instantiate(GenerativeModel, settings["model"])
    two = recipe.parent.name == "gan" and recipe.stem.endswith(("cifar10", "folder"))
    data = small(settings["data"], rows=2 if two else 4)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    callbacks = [instantiate(Callback, callback) for callback in settings["trainer"]["callbacks"]]
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        max_epochs=-1,
        callbacks=[callback for callback in callbacks if isinstance(callback, EMA | Anneal)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    assert trainer.global_step == 1
    after = dict(model.named_parameters())
    trained = TRAINED - {"discriminator"} if getattr(model, "discriminator_start", 0) else TRAINED
    for network in {name.split(".")[0] for name in before} & trained:
        moved = [name for name in before if name.startswith(network) and not torch.equal(before[name], after[name])]
        assert moved
    assert all(p.isfinite().all() for p in after.values())
    if large and recipe.parent.name == "pixelcnn":  # a thousand pixels and more, one by one
        return
    x = model.sample(2, seeds=torch.arange(2))
    assert x.shape[1:] == tuple(data.sample_shape)
    assert x.isfinite().all()
