"""Reading and writing checkpoints: safely, and without anything beside them.

A checkpoint holds the resolved configuration of its run, so it rebuilds its model and data module by itself. It is data
from elsewhere, too: it is unpickled with `weights_only=True`, and no class that it names is imported unless it belongs
to this package, to torch's networks, optimisers and distributions, or to a package that the user allows.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser, _common, set_parsing_settings
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.files import replacing
from lightning_gen.model import GenerativeModel, check_state_dict

Weights = Literal["ema", "raw"]

TRUSTED = (
    "lightning_gen.",
    "torch.nn.",
    "torch.optim.",
    "torch.distributions.",
    *(f"lightning.pytorch.{room}." for room in ("callbacks", "loggers", "plugins", "profilers", "strategies")),
)
"""Where a checkpoint may name classes; `torch` as a whole would include functions that run code."""

_allowed: ContextVar[str] = ContextVar("allowed", default="")


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


def trusted_packages(allow: str) -> tuple[str, ...]:
    """`TRUSTED`, and the packages named in `allow` with commas between them."""
    return (*TRUSTED, *(f"{package.strip()}." for package in allow.split(",") if package.strip()))


def check_trusted(config: Any, allow: str = "") -> None:
    """Raise `UserError` if `config` names classes that are not trusted.

    Args:
        config: nested dicts and lists of plain values, from a checkpoint.
        allow: packages the user trusts beside `TRUSTED`, separated by commas.
    """
    trusted = trusted_packages(allow)
    refused = sorted({name for name in _imported(config) if not name.startswith(trusted)})
    if refused:
        packages = [*filter(None, allow.split(",")), *sorted({name.split(".")[0] for name in refused})]
        raise UserError(
            f"the checkpoint names {', '.join(refused)}, outside lightning_gen and torch: if you trust the checkpoint"
            f" and that code, add --allow {','.join(packages)}"
        )


def _imported(config: Any) -> Iterator[str]:
    """Every class path in a configuration."""
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "class_path":
                yield str(value)
            else:
                yield from _imported(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _imported(value)


def untrusted_packages(config: Any) -> list[str]:
    """Packages that a configuration names classes of and that `--allow` must name for its checkpoints to load."""
    return sorted({name.split(".")[0] for name in _imported(config) if not name.startswith(TRUSTED)})


@contextmanager
def only_trusted(allow: str = "") -> Iterator[None]:
    """Let configurations import from `TRUSTED` and `allow` alone, whatever way they find to name a thing.

    Args:
        allow: packages the user trusts, separated by commas.
    """
    settings = _common.parsing_settings  # jsonargparse adds to its lists and has no public way back
    before = dict(settings)
    packages = [package.rstrip(".") for package in trusted_packages(allow)]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=packages)
    try:
        yield
    finally:
        settings.update(before)


@contextmanager
def allowing(packages: str) -> Iterator[None]:
    """Let `load` trust packages that it is not given: those that the user allows to a whole command.

    Args:
        packages: separated by commas.
    """
    token = _allowed.set(packages)
    try:
        yield
    finally:
        _allowed.reset(token)


def configuration(checkpoint: dict[str, Any], path: str | Path, allow: str = "") -> dict[str, Any]:
    """The configuration that a checkpoint carries, checked with `check_trusted`.

    Args:
        checkpoint: from `read_checkpoint`.
        path: named in messages.
        allow: packages the user trusts, separated by commas.

    Raises:
        UserError: if there is none, or it names classes that are not trusted.
    """
    config = checkpoint.get("config")
    if not config:
        raise UserError(
            f"the checkpoint {path} carries no configuration (it was not written by `lightning_gen fit`): build the"
            " model in Python and load its state_dict"
        )
    check_trusted(config, allow)
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
    """Rebuild what a checkpoint was trained with; nothing but the file is needed.

    Args:
        path: a checkpoint that `fit` wrote.
        weights: `ema` (where there are averages) or `raw`.
        allow: packages, beside this one, torch and those of `allowing`, that the checkpoint may name classes of;
            separated by commas.

    Returns:
        The model in evaluation mode on the CPU, its data module (not loaded), and which weights the model holds.

    Raises:
        UserError: see `read_checkpoint`, `configuration` and `check_state_dict`.
    """
    checkpoint = read_checkpoint(path)
    allow = ",".join(filter(None, (allow, _allowed.get())))
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
