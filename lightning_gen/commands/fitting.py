"""Which classes a key of the configuration takes, for messages about names that do not fit."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from lightning_gen.errors import nearest

_SHORT = ("lightning_gen.", "torch.optim", "lightning.pytorch.callbacks")
"""Where classes come from that a name without dots may mean."""


def misfit(path: str, name: str, keys: list[str], owner: str | None) -> str:
    """Say what is wrong with a class name that does not fit.

    Args:
        path: of the key, as the message names it.
        name: what was given.
        keys: from the outermost to the one that was given `name`.
        owner: class path of what takes the last key; None for the configuration itself.
    """
    kinds = _kinds(keys, owner)
    fits = {cls.__name__ for kind in kinds for cls in _concrete(kind)}
    short = name.rpartition(".")[2]
    found = _existing(name)
    if found is None or not kinds or issubclass(found, tuple(kinds)):
        return f"{path} names {name!r}, which is not a class that fits there{nearest(short, fits or _short_names())}"
    wanted = " or ".join(kind.__name__ for kind in kinds)
    ours = get_close_matches(short, sorted(fits), n=4, cutoff=0)
    such = f"; use one such as {', '.join(ours)}" if ours else ""
    return f"{path} names {name!r}, a class of another kind: it is no {wanted}{such}"


def import_error(path: str, name: str, error: BaseException) -> str:
    """Say why a class with a dotted name could not be imported.

    Args:
        path: of the key, as the message names it.
        name: what was given, `module.Class`.
        error: what importing it raised.
    """
    module, _, short = name.rpartition(".")
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing and f"{name}.".startswith(f"{missing}."):
        return f"{path} names {name!r}, but there is no module {missing!r}: check the name, or install it"
    if isinstance(error, AttributeError) and str(error) == f"module {module!r} has no attribute {short!r}":
        names = [key for key, value in vars(sys.modules[module]).items() if inspect.isclass(value)]
        return f"{path} names {name!r}, but {module} has no {short!r}{nearest(short, names)}"
    told = " ".join(str(error).split())
    return f"{path} names {name!r}, but importing {module} raises {type(error).__name__}: {told}"


def parameters(class_path: str | None) -> dict[str, Any]:
    """Names that a class takes in `init_args`, and their type hints, where these can be read."""
    if class_path is None:
        return {}
    from jsonargparse.typing import import_object

    try:
        bases = inspect.getmro(import_object(class_path))
        own = [vars(base)["__init__"] for base in bases if "__init__" in vars(base)]  # **kwargs pass on to the others
        names = [(name, init) for init in reversed(own) for name in inspect.signature(init).parameters]
        hints = {name: _hints(init).get(name) for name, init in names}
        order = [name for init in own for name in inspect.signature(init).parameters]
        return {name: hints[name] for name in dict.fromkeys(order) if name not in ("self", "args", "kwargs")}
    except (ImportError, ValueError, AttributeError, TypeError):
        return {}


def _hints(init: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(init)
    except (NameError, TypeError, AttributeError):
        return {}


def _kinds(keys: list[str], owner: str | None) -> list[type]:
    """The base classes of what the last key takes; empty where they are not known."""
    from lightning.pytorch import Callback

    from lightning_gen.data import DataModule
    from lightning_gen.guidance import Guidance
    from lightning_gen.metrics import FeatureExtractor
    from lightning_gen.model import GenerativeModel
    from lightning_gen.samplers import Sampler

    roots: dict[str, type] = {
        "model": GenerativeModel,
        "data": DataModule,
        "trainer.callbacks": Callback,
        "--extractor": FeatureExtractor,
        "--guidance": Guidance,
        "--sampler": Sampler,
    }
    if owner is None:
        return [roots[keys[-1]]] if keys and keys[-1] in roots else []
    return list(dict.fromkeys(_classes(parameters(owner).get(keys[-1])))) if keys else []


def _classes(hint: Any) -> Iterator[type]:
    """`list[Callable[[int], Prior]] | None` → `Prior`."""
    if get_origin(hint) is Callable:
        yield from _classes(get_args(hint)[-1])
    elif get_args(hint):
        for part in get_args(hint):
            yield from _classes(part)
    elif inspect.isclass(hint) and hint.__module__ != "builtins":
        yield hint


def _concrete(kind: type) -> Iterator[type]:
    """A class and those below it that can be built."""
    if not inspect.isabstract(kind) and not kind.__name__.startswith("_") and "<locals>" not in kind.__qualname__:
        yield kind
    below: list[type] = type.__subclasses__(kind)
    for cls in below:
        yield from _concrete(cls)


def _existing(name: str) -> type | None:
    """The class of that name, among modules that are imported already."""
    module, _, short = name.rpartition(".")
    rooms: Iterable[Any] = [sys.modules.get(module)] if module else _rooms()
    for room in rooms:
        found = vars(room).get(short) if room is not None else None
        if isinstance(found, type):
            return found
    return None


def _rooms() -> list[Any]:
    return [module for name, module in list(sys.modules.items()) if name.startswith(_SHORT)]


def _short_names() -> set[str]:
    """Names of every class that YAML may name without dots."""
    return {key for room in _rooms() for key, value in vars(room).items() if inspect.isclass(value) and key[0] != "_"}
