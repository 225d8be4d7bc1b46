"""Errors of the libraries beneath, said in one sentence with the nearest right name."""

import inspect
import re
from collections.abc import Iterator
from typing import Any

from lightning_gen.errors import UserError, nearest

_KEY = re.compile(r'[Pp]arser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_UNKNOWN_CLASS = re.compile(
    r"Expected a dot import path string: (\S+)|Import path (\S+) does not correspond to a subclass"
)
_UNKNOWN_MODULE = re.compile(
    r"(?:No module named '[^']+'|Unexpected import path|Expected a dot import path).*?([\w.]+)?$"
)
_UNKNOWN_OPTION = re.compile(r"Option '([^']+)' is not accepted|[Kk]ey '([^']+)' is not expected")
_REQUIRED = re.compile(r"(?:following arguments are required: |Key )[\"']?([\w.]+)[\"']?(?: is required)?")
_UNRECOGNISED = re.compile(r"[Uu]nrecognized arguments?:? (\S+)|does not accept nested key [\"']([^\"']+)[\"']")
_NOISE = re.compile(r"^\s*(-\s+Expected a <class 'NoneType'>|Given value|Subtypes:|Does not validate|Errors:)")


def explain(error: Exception) -> str | None:
    """Turn an exception about the input into a sentence.

    Args:
        error: what a command raised.

    Returns:
        The sentence, or None if the exception is not about the input.
    """
    from argparse import ArgumentError

    from lightning.fabric.utilities.exceptions import MisconfigurationException

    cause: BaseException | None = error
    while cause is not None:  # errors raised while classes are built come wrapped
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, ArgumentError):
        return _argument_error(str(error))
    if isinstance(error, MisconfigurationException):
        return _misconfiguration(str(error))
    if isinstance(error, PermissionError | IsADirectoryError | FileNotFoundError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def _misconfiguration(message: str) -> str:
    first = " ".join(message.split())
    if "can not run on your system" in first or "not available" in first:
        return f"the accelerator asked for (trainer.accelerator) is absent on this machine: use cpu or auto ({first})"
    if "manual optimization" in first and "clip" in first:
        return "trainer.gradient_clip_val does not reach manual optimisation: set model.init_args.gradient_clip_val"
    if "manual optimization" in first and "accumulat" in first:
        key = "accumulate_grad_batches"
        return f"trainer.{key} does not reach manual optimisation: set model.init_args.{key}"
    return first


def _argument_error(message: str) -> str:
    """Keys from the outermost to the innermost, then what is wrong with the last."""
    keys: list[str] = []
    owner: str | None = None
    for line in _relevant(message):
        keys += _KEY.findall(line)
        if match := _CLASS.search(line):
            owner = match[1]
        if match := _UNKNOWN_CLASS.search(line):
            name = match[1] or match[2]
            return f"{_path(keys)} names {name!r}, which is not a class that fits there{nearest(name, _class_names())}"
        if match := _UNKNOWN_OPTION.search(line):
            name = match[1] or match[2]
            names = _parameters(owner)
            choices = f"; it takes {', '.join(names)}" if names else ""
            return (
                f"{_path([*keys, name])} is not a key of {owner or 'the configuration'}{nearest(name, names)}{choices}"
            )
    text = " ".join(message.split())
    if match := _UNRECOGNISED.search(text):
        name = (match[1] or match[2]).lstrip("-").split("=")[0]
        leaf = name.split(".")[-1]
        return f"--{name} is not an option{nearest(leaf, _option_names(name))}"
    if match := _REQUIRED.search(text):
        if match[1] in ("model", "data"):
            return f"{match[1]} is not configured: give a recipe, such as --config configs/gan/dcgan_digits.yaml"
        return f"{_path([*keys, match[1]])} is required and missing"
    for line in _relevant(message):
        if "Expected" in line or "expected" in line:
            return f"{_path(keys)}: {line.strip(' -')}"
    return text if len(text) < 400 else text[:400] + " …"


def _relevant(message: str) -> Iterator[str]:
    """Lines that say something; jsonargparse repeats the whole value and every type it tried."""
    for line in message.splitlines():
        if not _NOISE.match(line):
            yield line


def _path(keys: list[str]) -> str:
    """`model`, `generator`, `width` → `model.init_args.generator.init_args.width`."""
    parts: list[str] = []
    for key in keys:
        if not parts or parts[-1] != key:
            parts.append(key)
    return ".init_args.".join(parts) or "the configuration"


def _parameters(class_path: str | None) -> list[str]:
    """Names that a class takes in `init_args`."""
    if class_path is None:
        return []
    from jsonargparse.typing import import_object

    try:
        return [name for name in inspect.signature(import_object(class_path)).parameters if name != "self"]
    except (ImportError, ValueError, AttributeError, TypeError):
        return []


def _class_names() -> list[str]:
    """Short names of every class that YAML may name."""
    from lightning_gen import callbacks, data, families, losses, metrics, networks

    rooms: tuple[Any, ...] = (callbacks, data, families, losses, metrics, networks)
    return [name for room in rooms for name in getattr(room, "__all__", dir(room)) if name[:1].isupper()]


def _option_names(name: str) -> list[str]:
    """Names that could have been meant: the trainer's and the command's own."""
    from lightning.pytorch import Trainer

    trainer = list(inspect.signature(Trainer).parameters)
    return (
        trainer
        if name.startswith("trainer.")
        else [*trainer, "config", "ckpt_path", "seed_everything", "model", "data"]
    )
