"""What the words of a command line say, before anything is built from them."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml

from lightning_gen.errors import UserError


def check_files(args: list[str]) -> None:
    """Say which configuration file is wrong; the parser would not name it."""
    words = [word.split("=", 1)[1] for word in args if word.startswith("--config=")]
    words += [after for word, after in itertools.pairwise(args) if word in ("--config", "-c")]
    for name in words:
        if name.lstrip().startswith("{"):
            continue
        try:
            settings = yaml.safe_load(Path(name).read_text())
        except FileNotFoundError:
            raise UserError(
                f"--config {name} does not exist: give a recipe, such as configs/gan/dcgan_digits.yaml"
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"--config {name} cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(settings, dict):
            raise UserError(f"--config {name} holds no settings: give a recipe with model, data and trainer")


def option(args: list[str], name: str) -> str | None:
    """The value of the first `name VALUE` or `name=VALUE`."""
    for k, word in enumerate(args):
        if word == name and k + 1 < len(args):
            return args[k + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return None


def stem(configs: Any) -> str:
    """The name of the first configuration file: the recipe, which later ones adjust."""
    paths = [Path(str(c.relative if hasattr(c, "relative") else c)) for c in as_list(configs) if c is not None]
    return paths[0].stem if paths else "run"


def check_writable(folder: Path) -> None:
    """Raise `UserError` unless files can be made in a folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"trainer.default_root_dir is {folder}, which cannot be written ({error.strerror}): choose another folder"
        ) from error


def number_of_processes(config: Any) -> int:
    """How many processes the trainer will run, from what the user wrote."""
    devices = config.devices
    if devices in ("auto", -1, "-1"):
        gpu = config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        count = torch.cuda.device_count() if gpu else 1
    elif isinstance(devices, list):
        count = len(devices)
    elif isinstance(devices, str) and "," in devices:
        count = len([device for device in devices.split(",") if device.strip()])
    else:
        try:
            count = int(devices)
        except ValueError:
            raise UserError(f"trainer.devices is {devices!r}: give their number, a list of them, or auto") from None
    return count * int(config.num_nodes or 1)


def as_list(value: Any) -> list:
    """None as no values, one value as a list of it."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
