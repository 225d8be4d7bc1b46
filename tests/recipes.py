"""Recipes as tests build them: smaller, on noise in place of files, and with a first stage where one is due."""

import copy
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser

from lightning_gen.checkpoints import instantiate
from lightning_gen.data import DataModule, Images, TensorRows
from lightning_gen.model import GenerativeModel

ROOT = Path(__file__).parents[1] / "configs"
RECIPES = sorted(ROOT.rglob("*.yaml"))
NARROWER = 8
FETCHED = ("MNIST", "FashionMNIST", "CIFAR10", "ImageFolder", "ImageArrays")


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
        return ("train", "val")

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
    options = settings["init_args"]
    inner = options.get("data", settings)
    options["batch_size"] = rows
    data = instantiate(DataModule, settings)
    if inner["class_path"] not in FETCHED:
        return data
    source = getattr(data, "data", data)
    classes = None if inner["class_path"] == "ImageFolder" else source.num_classes
    noise = Noise(source.sample_shape, classes, max(100, 20 * rows), batch_size=rows)
    if inner is settings:
        return noise
    arguments = {key: value for key, value in options.items() if key not in ("data", "num_samples", "num_labels")}
    if settings["class_path"] == "FewLabels":
        arguments["num_labels"] = 20
    if settings["class_path"] == "Stacked":
        arguments["num_samples"] = 100
    return type(data)(noise, **arguments)


def narrow(part):
    """Networks with an eighth of the channels, codebooks with an eighth of the codes, two steps of many."""
    if isinstance(part, list):
        for each in part:
            narrow(each)
    if not isinstance(part, dict):
        return
    arguments = part.get("init_args", {})
    for key in ("width", "channel_base", "widths", "num_codes", "block_width", "head_width", "value_dim"):
        value = arguments.get(key)
        if value is not None:
            arguments[key] = [v // NARROWER for v in value] if isinstance(value, list) else value // NARROWER
    if arguments.get("steps") is not None:
        arguments["steps"] = min(arguments["steps"], 2)
    name = part.get("class_path", "")
    if "StyleGAN2" in name:
        arguments |= {"channel_max": 64} | ({} if "channel_base" in arguments else {"channel_base": 4096})
    if "ResNet" in name:
        arguments.setdefault("width", 64)
    for value in part.values():
        narrow(value)


def settings_of(recipe, folder, narrower=False):
    """A recipe's settings; where it names a first stage, a checkpoint of that, untrained, stands in `folder`."""
    settings = yaml.safe_load(recipe.read_text())
    arguments = settings["model"]["init_args"]
    if narrower:
        narrow(settings["model"])
    if arguments.get("perceptual") == "LPIPS":  # its weights are fetched
        arguments["perceptual"] = None
    if "first_stage" in arguments:
        (first,) = ROOT.rglob(f"{Path(arguments['first_stage']).parts[1]}.yaml")
        arguments["first_stage"] = str(checkpoint_of(first, Path(folder) / "first.ckpt", narrower))
    return settings


def resolved(cls, settings):
    """With whole class paths and all arguments, as the command saves it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(cls, "part")
    return yaml.safe_load(parser.dump(parser.parse_object({"part": settings}), skip_none=False))["part"]


def checkpoint_of(recipe, path, narrower):
    """Write what `fit` would at its start."""
    settings = settings_of(recipe, path.parent, narrower)
    model = instantiate(GenerativeModel, settings["model"])
    config = {"model": resolved(GenerativeModel, settings["model"]), "data": resolved(DataModule, settings["data"])}
    torch.save({"state_dict": model.state_dict(), "config": config, "callbacks": {}, "global_step": 0}, path)
    return path
