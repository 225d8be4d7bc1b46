"""Errors of the libraries beneath, said in one sentence with the nearest right name."""

import inspect
import re
import traceback
from collections.abc import Iterator

from lightning_gen.commands.fitting import import_error, misfit, parameters
from lightning_gen.errors import UserError, nearest

_KEY = re.compile(r'[Pp]arser key "([^"]+)"')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_UNKNOWN_CLASS = re.compile(
    r"Expected a dot import path string: (\S+)|Import path (\S+) does not correspond to a subclass"
    r"|Expected '(\S+)' to be a subclass of"
)
_UNKNOWN_OPTION = re.compile(r"Option '([^']+)' is not accepted|[Kk]ey '([^']+)' is not expected")
_REQUIRED = re.compile(r"(?:following arguments are required: |Key )[\"']?([\w.]+)[\"']?(?: is required)?")
_UNRECOGNISED = re.compile(r"[Uu]nrecognized arguments?:? (\S+)|does not accept nested key [\"']([^\"']+)[\"']")
_NO_VALUE = re.compile(r"^argument (?:-\w/)?(--[\w.]+).*: expected (?:one|at least one|\d+) argument")
_DENIED = re.compile(r"Importing '([^']+)' is not allowed")
_ROOT = re.compile(r'key "object":\s+Does not validate[^[]*\[<class \'[\w.]*\.(\w+)\'>')
_NO_FILE = re.compile(r"File does not exist: '([^']+)'")
_NO_SECTION = re.compile(r"does not accept option '([^']+)'")
_PLAIN = re.compile(r"Expected an? (?:<class '(int|float|bool|str)'>|typing\.Literal\[(.+)\])")
_GIVEN = re.compile(r"G(?:iven|ot) value: (.*?)(?:\. Got value: Namespace.*)?$")
_NAMED = re.compile(r"callable class.*Got value: (?:Namespace\(class_path=')?([\w.]+)")
_OPTIMISER = re.compile(r"Got value: Namespace\(class_path='([^']+)'")
_INVALID = re.compile(r"invalid (accelerator|strategy) name: `\w+='?([^'`]+)'?`\.(?: Available names are: ([^.]+))?")
_WRAPPED = "Does not validate against any of the Union"
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

    for cause in _chain(error):  # errors raised while classes are built come wrapped
        if isinstance(cause, UserError):
            return str(cause)
    if isinstance(error, ArgumentError):
        *_, first = _chain(error)
        if not isinstance(first, ImportError | AttributeError) and (name := _imported(first)):
            return import_error("the configuration", name, first)
        imports = (cause for cause in _chain(error) if isinstance(cause, ImportError | AttributeError))
        return _argument_error(_rooted(str(error)), next(imports, None))
    if name := _imported(error):
        return import_error("the configuration", name, error)
    if str(error).startswith(_WRAPPED):
        return _building_error(next((cause for cause in _chain(error) if not str(cause).startswith(_WRAPPED)), error))
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


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it came from, and so on to the first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _imported(error: BaseException) -> str | None:
    """The class path whose module raised `error` while it was imported, if one did."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    calls = [frame.f_code.co_name for frame in frames]
    if "import_object" not in calls:
        return None
    place = calls.index("import_object")
    after = calls[place + 1 : place + 2]
    # jsonargparse's own complaints about the name are no fault of the module
    about_name = after == ["check_import_path"] or (not after and isinstance(error, ValueError))
    return None if about_name else frames[place].f_locals.get("name")


def _building_error(cause: BaseException) -> str:
    """Which class could not be built, and what it raised."""
    frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__) if frame.f_code.co_name == "__init__"]
    names = [type(frame.f_locals["self"]).__name__ for frame in frames if "self" in frame.f_locals]
    what = names[-1] if names else "the model"
    told = " ".join(str(cause).split())
    return f"{what} cannot be built: {type(cause).__name__}: {told[:300]} (--debug shows the traceback)"


def _rooted(message: str) -> str:
    """Objects that a command builds itself, called what the user calls them."""
    names = {"GenerativeModel": "model", "DataModule": "data", "FeatureExtractor": "--extractor"}
    match = _ROOT.search(message)
    if match and match[1] in names:
        return message.replace('key "object"', f'key "{names[match[1]]}"', 1)
    return re.sub(r'^([Pp]arser key )"(sampler|guidance)"', r'\1"--\2"', message)


def _argument_error(message: str, cause: BaseException | None) -> str:
    """Keys from the outermost to the innermost, then what is wrong with the last."""
    if match := _NO_VALUE.search(message):
        return f"{match[1]} has no value: write {match[1]}=VALUE"
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
        given = match[1] if (match := _NAMED.search(line)) else owner
        if match := _DENIED.search(line):
            package = match[1].split(".")[0]
            return (
                f"{_path(keys)} names {match[1]!r}, outside lightning_gen and torch: if you trust that code, add"
                f" --allow {package}"
            )
        if match := _UNKNOWN_CLASS.search(line):
            if kinds := _plain_kinds(message, keys):
                return f"{_path(keys)} is {_given(message, keys)!r}: it must be {kinds}"
            return misfit(_path(keys), match[1] or match[2] or match[3], keys, owner)
        if given and cause is not None and str(cause).split("\n")[0] in line:
            return import_error(_path(keys), given, cause)
        if match := _UNKNOWN_OPTION.search(line):
            name = match[1] or match[2]
            if optimiser and "callable class" in line:
                owner = optimiser[1]
            names = list(parameters(owner))
            choices = f"; it takes {', '.join(names)}" if names else ""
            return (
                f"{_path([*keys, name])} is not a key of {owner or 'the configuration'}{nearest(name, names)}{choices}"
            )
    return _option_error(message, keys)


def _option_error(message: str, keys: list[str]) -> str:
    """What is wrong where no class is: an option that there is not, a missing one, a plain value."""
    text = " ".join(message.split())
    if match := _UNRECOGNISED.search(text):
        if match[1] and not match[1].startswith("-"):
            return (
                f"{match[1]!r} is a word without an option before it: an option takes one value (several packages of"
                " --allow are joined by commas)"
            )
        name = (match[1] or match[2]).lstrip("-").split("=")[0]
        leaf = name.split(".")[-1]
        return f"--{name} is not an option{nearest(leaf, _option_names(name))}"
    if match := _REQUIRED.search(text):
        if match[1].split(".")[-1] in ("model", "data"):
            missing = " and ".join(name for name in ("model", "data") if f".{name}" in text or match[1] == name)
            return f"{missing} not configured: give a recipe, such as --config configs/gan/dcgan_digits.yaml"
        return f"{_path([*keys, match[1].rstrip('.')])} is required and missing"
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
    if parts[:1] == ["object"] and len(parts) > 1:  # options of `evaluate`, which builds an Evaluation from them
        return "--" + ".init_args.".join(parts[1:])
    return ".init_args.".join(parts) or "the configuration"


def _option_names(name: str) -> list[str]:
    """Names that could have been meant: the trainer's and the command's own."""
    from lightning.pytorch import Trainer

    from lightning_gen.commands.parsers import PARSERS

    own = [action.dest for make in PARSERS.values() for action in make()._actions]
    trainer = list(inspect.signature(Trainer).parameters)
    return trainer if name.startswith("trainer.") else [*own, *trainer, "seed_everything", "model", "data"]
