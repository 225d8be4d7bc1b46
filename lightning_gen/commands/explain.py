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
_NO_MODULE = re.compile(r"No module named '([^']+)'")
_NO_FILE = re.compile(r"File does not exist: '([^']+)'")
_NO_SECTION = re.compile(r"does not accept option '([^']+)'")
_PLAIN = re.compile(r"Expected an? (?:<class '(int|float|bool|str)'>|typing\.Literal\[(.+)\])")
_GIVEN = re.compile(r"G(?:iven|ot) value: (.*?)(?:\. Got value: Namespace.*)?$")
_OPTIMISER = re.compile(r"Got value: Namespace\(class_path='([^']+)'")
_INVALID = re.compile(r"invalid (accelerator|strategy) name: `\w+='?([^'`]+)'?`\.(?: Available names are: ([^.]+))?")
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
    if match := _INVALID.search(str(error)):
        choices = match[3] or ", ".join(("auto", *_strategies()))
        return f"trainer.{match[1]} is {match[2]!r}{nearest(match[2], choices.split(', '))}: use any of {choices}"
    if isinstance(error, MisconfigurationException) or "backend found" in str(error):
        return _misconfiguration(str(error))
    if isinstance(error, PermissionError | IsADirectoryError | FileNotFoundError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return None


def _misconfiguration(message: str) -> str:
    first = " ".join(message.split())
    if "can not run on your system" in first or "not available" in first or "backend found" in first:
        return f"the accelerator asked for (trainer.accelerator) is absent on this machine: use cpu or auto ({first})"
    if "manual optimization" in first and "clip" in first:
        return "trainer.gradient_clip_val does not reach manual optimisation: set model.init_args.gradient_clip_val"
    if "manual optimization" in first and "accumulat" in first:
        key = "accumulate_grad_batches"
        return f"trainer.{key} does not reach manual optimisation: set model.init_args.{key}"
    return first


def _argument_error(message: str) -> str:
    """Keys from the outermost to the innermost, then what is wrong with the last."""
    if match := _NO_FILE.search(message):
        return f"--config {match[1]} does not exist: give a recipe, such as --config configs/gan/dcgan_digits.yaml"
    if match := _NO_SECTION.search(message):
        section, _, leaf = match[1].partition(".")
        known = ("model", "data", "trainer", "seed_everything", "ckpt_path", "run_name", "finite_guard", "progress_bar")
        if section not in known:
            return f"{section} is not a key of the configuration{nearest(section, known)}"
        return f"{match[1]} is not a key of the configuration{nearest(leaf, _option_names(match[1]))}"
    keys: list[str] = []
    owner: str | None = None
    optimiser = _OPTIMISER.search(message)
    for line in _relevant(message):
        keys += _KEY.findall(line)
        if match := _CLASS.search(line):
            owner = match[1]
        if match := _NO_MODULE.search(line):
            return f"{_path(keys)} names {owner!r}, but there is no module {match[1]!r}: check the name, or install it"
        if match := _UNKNOWN_CLASS.search(line):
            if kinds := _plain_kinds(message, keys):
                return f"{_path(keys)} is {_given(message, keys)!r}: it must be {kinds}"
            name = match[1] or match[2]
            return f"{_path(keys)} names {name!r}, which is not a class that fits there{nearest(name, _class_names())}"
        if match := _UNKNOWN_OPTION.search(line):
            name = match[1] or match[2]
            if optimiser and "callable class" in line:
                owner = optimiser[1]
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
        if match[1].split(".")[-1] in ("model", "data"):
            missing = " and ".join(name for name in ("model", "data") if f".{name}" in text or match[1] == name)
            return f"{missing} not configured: give a recipe, such as --config configs/gan/dcgan_digits.yaml"
        return f"{_path([*keys, match[1]])} is required and missing"
    if kinds := _plain_kinds(message, keys):
        return f"{_path(keys)} is {_given(message, keys)!r}: it must be {kinds}"
    for line in _relevant(message):
        if "Expected" in line or "expected" in line:
            return f"{_path(keys)}: {line.strip(' -')}"
    return text if len(text) < 400 else text[:400] + " …"


def _plain_kinds(message: str, keys: list[str]) -> str:
    """What a plain value must be, such as `int or one of 'a', 'b'`; empty if a class was expected."""
    part = _innermost(message, keys).split("Given value", 1)[0]
    return " or ".join(match[1] or f"one of {match[2]}" for match in _PLAIN.finditer(part))


def _given(message: str, keys: list[str]) -> str:
    """The value that did not fit."""
    lines = _innermost(message, keys).splitlines()
    return next((match[1] for line in lines if (match := _GIVEN.search(line))), "")


def _innermost(message: str, keys: list[str]) -> str:
    """What is said of the last key."""
    return message.rsplit(f'key "{keys[-1]}"', 1)[-1] if keys else message


def _strategies() -> list[str]:
    from lightning.pytorch.strategies import StrategyRegistry

    return [name for name in StrategyRegistry.available_strategies() if "spawn" not in name and "fork" not in name]


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
        bases = inspect.getmro(import_object(class_path))
        own = [vars(base)["__init__"] for base in bases if "__init__" in vars(base)]  # **kwargs pass on to the others
        names = [name for init in own for name in inspect.signature(init).parameters]
        return [name for name in dict.fromkeys(names) if name not in ("self", "args", "kwargs")]
    except (ImportError, ValueError, AttributeError, TypeError):
        return []


def _class_names() -> list[str]:
    """Short names of every class that YAML may name."""
    import torch
    from lightning.pytorch import callbacks as lightning_callbacks

    from lightning_gen import callbacks, data, families, losses, metrics, networks

    rooms: tuple[Any, ...] = (callbacks, data, families, losses, metrics, networks, lightning_callbacks, torch.optim)
    return [name for room in rooms for name in getattr(room, "__all__", dir(room)) if name[:1].isupper()]


def _option_names(name: str) -> list[str]:
    """Names that could have been meant: the trainer's and the command's own."""
    from lightning.pytorch import Trainer

    from lightning_gen.commands.parsers import PARSERS

    own = [action.dest for make in PARSERS.values() for action in make()._actions]
    trainer = list(inspect.signature(Trainer).parameters)
    return trainer if name.startswith("trainer.") else [*own, *trainer, "seed_everything", "model", "data"]
