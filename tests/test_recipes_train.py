"""Every recipe takes a step, on few rows of data of the right shape; those meant for a GPU with narrower networks."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer

from lightning_gen.callbacks import EMA, Anneal
from lightning_gen.checkpoints import instantiate
from lightning_gen.data import DataModule, FewLabels, Images, Stacked, TensorRows
from lightning_gen.model import GenerativeModel

ROOT = Path(__file__).parents[1] / "configs" / "gan"
RECIPES = sorted(ROOT.glob("*.yaml"))
NARROWER = 8


class Noise(DataModule):
    """Grey noise in the place of data that would have to be fetched."""

    modality = Images()

    def __init__(self, shape, classes, rows, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.classes, self.count = shape, classes, rows

    @property
    def sample_shape(self):
        return tuple(self.shape)

    @property
    def splits(self):
        return ("train",)

    @property
    def num_classes(self):
        return self.classes

    def load_split(self, name):
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(256, (self.count, *self.shape), dtype=torch.uint8, generator=generator)
        return TensorRows(x, torch.arange(self.count) % self.classes if self.classes else None)


def small(settings, rows):
    """The recipe's data with a few rows a batch, and noise where files would be needed."""
    settings = copy.deepcopy(settings)
    settings["init_args"]["batch_size"] = rows
    inner = settings["init_args"].get("data", settings)
    if inner["class_path"] not in ("MNIST", "CIFAR10", "ImageFolder"):
        return instantiate(DataModule, settings)
    if inner["class_path"] == "ImageFolder":
        size = inner["init_args"]["image_size"]
        return Noise([3, size, size], None, 20 * rows, batch_size=rows)
    size = inner["init_args"].get("image_size", 32)
    noise = Noise([3 if inner["class_path"] == "CIFAR10" else 1, size, size], 10, 100, batch_size=rows)
    if inner is settings:
        return noise
    if settings["class_path"] == "Stacked":
        return Stacked(noise, channels=settings["init_args"]["channels"], num_samples=100, batch_size=rows)
    return FewLabels(noise, num_labels=20, batch_size=rows)


def narrow(settings):
    """Networks with an eighth of the channels, or, where a width is the class's own, 64."""
    for network in (settings["generator"], settings["discriminator"]):
        arguments = network["init_args"].get("discriminator", network)["init_args"]
        for key in ("width", "channel_base", "widths"):
            value = arguments.get(key)
            if value is not None:
                arguments[key] = [v // NARROWER for v in value] if isinstance(value, list) else value // NARROWER
        if "StyleGAN2" in network["class_path"]:
            arguments |= {"channel_max": 64} | ({} if "channel_base" in arguments else {"channel_base": 4096})
        if "ResNet" in network["class_path"]:
            arguments.setdefault("width", 64)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_step(recipe, tmp_path):
    settings = yaml.safe_load(recipe.read_text())
    large = recipe.stem.endswith(("cifar10", "folder"))
    if large:
        narrow(settings["model"]["init_args"])
    torch.manual_seed(0)
    model = instantiate(GenerativeModel, settings["model"])
    data = small(settings["data"], rows=2 if large else 4)
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
    for network in ("generator", "discriminator"):
        moved = [name for name in before if name.startswith(network) and not torch.equal(before[name], after[name])]
        assert moved
    assert all(p.isfinite().all() for p in after.values())
    x = model.sample(2, seeds=torch.arange(2))
    assert x.shape[1:] == tuple(data.sample_shape)
    assert x.isfinite().all()
