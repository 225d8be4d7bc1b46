"""Reading and writing checkpoints: safely, and without anything beside them.

A checkpoint holds the resolved configuration of its run, so it rebuilds its model and data module by itself. It is data
from elsewhere, too: it is unpickled with `weights_only=True`, and no class that it names is imported unless it belongs
to this package, to torch's networks, optimisers and distributions, or to a package that the user allows.
"""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.files import replacing
from lightning_gen.model import GenerativeModel, check_state_dict
from lightning_gen.trust import allowed_packages, check_complete, check_trusted, only_trusted

Weights = Literal["ema", "raw"]


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file.
        mmap: read tensors from the file when they are used, instead of all at once.

    Returns:
        Its content: plain values and tensors only.

    Raises:
        UserError: if the file is missing, unreadable, cut short, or holds anything but plain values and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--ckpt_path {path} does not exist or is not a file: give a .ckpt that `fit` wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises whatever its zip reader or unpickler met
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise UserError(
                f"the checkpoint {path} holds more than plain values and tensors, which loading could run as code: it"
                f" is refused ({str(error).splitlines()[0]})"
            ) from error
        raise UserError(
            f"the checkpoint {path} cannot be read ({type(error).__name__}): it is cut short or not a checkpoint; use"
            " another one of the run"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} holds no model: give a .ckpt that `fit` wrote")
    return checkpoint


def configuration(checkpoint: dict[str, Any], path: str | Path, allow: str = "") -> dict[str, Any]:
    """The configuration that a checkpoint carries, checked with `check_trusted` and `check_complete`.

    Args:
        checkpoint: from `read_checkpoint`.
        path: named in messages.
        allow: packages the user trusts, separated by commas.

    Raises:
        UserError: if there is none, or it names classes that are not trusted, or another checkpoint.
    """
    config = checkpoint.get("config")
    if not config:
        raise UserError(
            f"the checkpoint {path} carries no configuration (it was not written by `lightning_gen fit`): build the"
            " model in Python and load its state_dict"
        )
    check_trusted(config, allow)
    check_complete(config)
    return config


def instantiate(cls: type, config: dict[str, Any], name: str = "object", **kwargs: Any) -> Any:
    """Build an object of `cls` from `{class_path, init_args}`, nested classes included; messages call it `name`."""
    import_components()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(cls, name, **kwargs)
    return parser.instantiate(parser.parse_object({name: config}))[name]


def import_components() -> None:
    """Import every module whose classes have short names in YAML."""
    import lightning_gen.augmentation
    import lightning_gen.callbacks
    import lightning_gen.data
    import lightning_gen.families
    import lightning_gen.metrics
    import lightning_gen.networks
    import lightning_gen.samplers  # noqa: F401


def load_state(model: GenerativeModel, checkpoint: dict[str, Any], weights: Weights) -> Weights:
    """Load a checkpoint's weights into a model.

    Args:
        model: of the same configuration.
        checkpoint: from `read_checkpoint`.
        weights: `ema` for averaged weights where the checkpoint has them; `raw` for those that were trained.

    Returns:
        Which weights were loaded.
    """
    state, loaded = weights_of(checkpoint, weights)
    check_state_dict(model, state)
    model.load_state_dict(state)
    return loaded


def weights_of(checkpoint: dict[str, Any], weights: Weights) -> tuple[dict[str, Tensor], Weights]:
    """The state of a checkpoint's model, with averaged weights in their places if `ema` and there are any.

    Returns:
        Tensors by name, and which weights they are.
    """
    from lightning_gen.callbacks.ema import averaged_state

    averaged = averaged_state(checkpoint) if weights == "ema" else {}
    return checkpoint["state_dict"] | averaged, "ema" if averaged else "raw"


def load(path: str | Path, weights: Weights = "ema", allow: str = "") -> tuple[GenerativeModel, DataModule, Weights]:
    """Rebuild what a checkpoint was trained with; no other file of a model is needed, and none is opened.

    Args:
        path: a checkpoint that `fit` wrote.
        weights: `ema` (where there are averages) or `raw`.
        allow: packages, beside this one, torch and those of `allowing`, that the checkpoint may name classes of;
            separated by commas.

    Returns:
        The model in evaluation mode on the CPU, its data module (not loaded), and which weights the model holds.

    Raises:
        UserError: see `read_checkpoint`, `configuration`, `trust.check_open` and `check_state_dict`.
    """
    checkpoint = read_checkpoint(path)
    allow = allowed_packages(allow)
    config = configuration(checkpoint, path, allow)
    with only_trusted(allow):
        model, data = instantiate(GenerativeModel, config["model"]), instantiate(DataModule, config["data"])
    loaded = load_state(model, checkpoint, weights)
    model.config = config
    return model.eval(), data, loaded


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a killed write never leaves half a checkpoint under its name.

    Reads with `weights_only=True`, whatever is asked.
    """

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; see `read_checkpoint`."""
        return read_checkpoint(path)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            UserError: if the folder cannot be written; the checkpoint that was there stays.
        """
        path = Path(path)
        try:
            with replacing(path) as partial, partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in str(error):
                raise  # torch reports a full disk as RuntimeError, but not every RuntimeError is one
            raise UserError(
                f"cannot write the checkpoint {path} ({error}): free the disk or move trainer.default_root_dir"
            ) from error
