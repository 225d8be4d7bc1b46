"""Which keys of a configuration to change where a model makes samples of another shape than the data have."""

from collections.abc import Sequence
from inspect import signature

from torch import nn


def differing_keys(model: nn.Module, parts: Sequence[str], made: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say which keys to change; images are (C, H, W), everything else is only described.

    Args:
        model: what makes the samples.
        parts: names of its networks whose arguments have their sizes, also their keys in `model.init_args`.
        made: shape of the model's samples.
        wanted: of the data's.
    """
    if len(made) != len(wanted) or len(made) != 3:
        return "choose networks and data of the same kind"
    keys = [
        key for key, differs in (("channels", made[0] != wanted[0]), ("image_size", made[1:] != wanted[1:])) if differs
    ]
    return "make " + " and ".join(f"{_of_model(model, parts, key)} or data.init_args.{key}" for key in keys) + " agree"


def _of_model(model: nn.Module, parts: Sequence[str], key: str) -> str:
    there = [name for name in parts if isinstance(getattr(model, name, None), nn.Module)]
    if not there:
        return f"the {key} of the networks in model.init_args"
    first, *others = there
    known = signature(type(getattr(model, first))).parameters
    own = key if key in known or "sample_dim" not in known else "sample_dim"
    more = f" (and {' and '.join(f'the {name}' for name in others)}'s)" if others else ""
    return f"model.init_args.{first}.init_args.{own}{more}"
