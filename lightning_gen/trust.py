"""What a checkpoint's configuration may name: classes of this package and of torch, and no other file of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jsonargparse import _common, set_parsing_settings

from lightning_gen.errors import UserError

TRUSTED = (
    "lightning_gen.",
    "torch.nn.",
    "torch.optim.",
    "torch.distributions.",
    *(f"lightning.pytorch.{room}." for room in ("callbacks", "loggers", "plugins", "profilers", "strategies")),
)
"""Where a checkpoint may name classes; `torch` as a whole would include functions that run code."""

_COMES_FROM_A_CHECKPOINT = (
    ", but the model comes from a checkpoint, which may name no other: train with a recipe, whose checkpoints hold the"
    " first stage"
)
_allowed: ContextVar[str] = ContextVar("allowed", default="")
_closed: ContextVar[bool] = ContextVar("closed", default=False)


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


def check_complete(config: Any) -> None:
    """Raise `UserError` if a checkpoint's `config` names a first stage's file in place of its configuration."""
    if isinstance(config, dict):
        if isinstance(path := config.get("first_stage"), str):
            raise UserError(f"first_stage is {path!r}{_COMES_FROM_A_CHECKPOINT}")
        config = list(config.values())
    if isinstance(config, list | tuple):
        for value in config:
            check_complete(value)


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

    Models that are built meanwhile may open no other checkpoint, see `check_open`.

    Args:
        allow: packages the user trusts, separated by commas.
    """
    settings = _common.parsing_settings  # jsonargparse adds to its lists and has no public way back
    before = dict(settings)
    packages = [package.rstrip(".") for package in trusted_packages(allow)]
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=packages)
    token = _closed.set(True)
    try:
        yield
    finally:
        _closed.reset(token)
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


def allowed_packages(allow: str) -> str:
    """`allow` and the packages of `allowing`, with commas between them."""
    return ",".join(filter(None, (allow, _allowed.get())))


def check_open(told: str) -> None:
    """Raise `UserError` where a checkpoint's model is being built: it holds all that it needs.

    Args:
        told: key and path of what would be opened, the beginning of the message.
    """
    if _closed.get():
        raise UserError(f"{told}{_COMES_FROM_A_CHECKPOINT}")
