"""Schedules of anything that is a number: a penalty's weight, an augmentation's probability, an optimiser's beta."""

import math
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_gen.errors import UserError

Shape = Literal["linear", "cosine", "exponential"]

_WHERE = (
    "start it with model, optimizers or the class of a callback, such as model.penalties.0.gamma, optimizers.0.betas.1"
    " or EMA.half_life"
)


class Anneal(Callback):
    """Moves a number from `start` to `end` over `steps` steps and leaves it there.

        linear:       start + (end − start)·t
        cosine:       end + (start − end)·(1 + cos πt)/2
        exponential:  start·(end / start)ᵗ

    with t = (step − begin) / steps, kept in [0, 1]. The value is a function of the step alone, so a resumed run goes on
    where it was.

    Args:
        target: where the number is: `model.` and attributes below it, `optimizers.` with 0 for a GAN's generator and 1
            for its discriminator, or the class of a callback. A list or tuple goes on with a position.
        start: value up to step `begin`.
        end: value from step `begin + steps` on.
        steps: ≥ 1.
        shape: of the way in between.
        begin: ≥ 0.

    Raises:
        UserError: if `steps` is below 1 or `begin` below 0, or an end of an exponential is not above 0; at the start of
            training, if there is no such number, or a scheduler of the model moves it.
    """

    def __init__(
        self,
        target: str,
        start: float,
        end: float,
        steps: int,
        shape: Shape = "cosine",
        begin: int = 0,
    ) -> None:
        for name, value, least in (("steps", steps, 1), ("begin", begin, 0)):
            if value < least:
                raise UserError(f"Anneal.{name} is {value}: it must be at least {least}")
        if shape == "exponential" and not (start > 0 and end > 0):
            raise UserError(f"Anneal goes from {start} to {end} exponentially: both must be above 0")
        self.target, self.start, self.end, self.steps = target, start, end, steps
        self.shape, self.begin = shape, begin

    def value(self, step: int) -> float:
        """The value at a step."""
        t = min(max(step - self.begin, 0) / self.steps, 1.0)
        if self.shape == "exponential":
            return self.start * (self.end / self.start) ** t
        share = t if self.shape == "linear" else (1 - math.cos(math.pi * t)) / 2
        return self.start + (self.end - self.start) * share

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that the target exists, before anything is trained; optimisers do not exist yet."""
        if stage == "fit" and not self.target.startswith("optimizers."):
            self._set(trainer, pl_module, self.value(0))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same for optimisers, whose rates a schedule of the model may move already."""
        for config in trainer.lr_scheduler_configs:
            k = trainer.optimizers.index(config.scheduler.optimizer)
            if self.target == f"optimizers.{k}.lr":
                raise UserError(
                    f"Anneal.target is {self.target!r}, which a scheduler of the model moves too: leave one of them out"
                )
        self._set(trainer, pl_module, self.value(trainer.global_step))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the number for the step that begins."""
        if trainer.global_step <= self.begin + self.steps:
            self._set(trainer, pl_module, self.value(trainer.global_step))

    def _set(self, trainer: Trainer, model: LightningModule, value: float) -> None:
        root, *path = self.target.split(".")
        callbacks = {type(callback).__name__: callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
        roots: dict[str, Any] = {**callbacks, "model": model, "optimizers": trainer.optimizers}
        if root not in roots or not path:
            raise UserError(f"Anneal.target is {self.target!r}: {_WHERE}")
        try:
            _assign(roots[root], path, value)
        except (AttributeError, IndexError, KeyError, ValueError, TypeError) as error:
            raise UserError(f"Anneal.target is {self.target!r}, but there is no such number: {_WHERE}") from error


def _assign(owner: Any, path: list[str], value: float) -> Any:
    """Put `value` at the end of `path` below `owner`; returns what stands for `owner` then, as tuples are replaced."""
    name, *rest = path
    if isinstance(owner, Optimizer):
        for group in owner.param_groups:
            group[name] = _assign(group[name], rest, value) if rest else _checked(group[name], value)
        return owner
    if isinstance(owner, tuple | list | nn.ModuleList):
        k = int(name)
        item = _assign(owner[k], rest, value) if rest else _checked(owner[k], value)
        return (*owner[:k], item, *owner[k + 1 :]) if isinstance(owner, tuple) else owner
    found = getattr(owner, name)
    if rest:
        replaced = _assign(found, rest, value)
        if replaced is not found:
            setattr(owner, name, replaced)
    elif isinstance(found, Tensor):
        found.fill_(value)
    else:
        setattr(owner, name, _checked(found, value))
    return owner


def _checked(found: Any, value: float) -> float:
    """`value`, if it stands for a number that is no count."""
    if not isinstance(found, float):  # whole numbers count something
        raise TypeError(f"{found!r} is no fraction")
    return value
