"""Shell completion: what the parsers tell of commands, classes and their options."""

from typing import Any

from jsonargparse import _completions
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lightning_gen.commands.parsers import PARSERS

_COMPLETED_DEPTH = 2
"""Dots of an option below which shell completion names classes, but not their options in turn."""


class Parser(LightningArgumentParser):
    """Knows this package's own subcommands too, for shell completion."""

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """Add `sample` and `evaluate` to whatever comes."""
        action = super().add_subcommands(*args, **kwargs)
        for name, make in PARSERS.items():
            action.add_subcommand(name, make())
        return action


class NamedStrategyTrainer(Trainer):
    """For shell completion, to which a strategy's own arguments would add sixteen thousand options."""

    def __init__(self, *, strategy: str = "auto", **kwargs: Any) -> None:
        super().__init__(strategy=strategy, **kwargs)


def complete_shallowly() -> None:
    """Let shell completion know the options of a model's parts, but not of their parts in turn, which are millions."""
    nested = _completions.add_subactions_and_get_subclass_choices

    def shallow(typehint: Any, prefix: str | None, *args: Any, **kwargs: Any) -> list[str]:
        if prefix is not None and prefix.count(".") >= _COMPLETED_DEPTH:
            return [str(path) for path in _completions.get_all_subclass_paths(typehint)]
        return nested(typehint, prefix, *args, **kwargs)

    _completions.add_subactions_and_get_subclass_choices = shallow
