"""Optimisers and learning rate schedules, made from what a configuration names."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_gen.errors import UserError


def make_optimizers(*recipes: tuple[nn.Module, Callable[..., Optimizer], Callable[..., Any] | None]) -> Any:
    """What `configure_optimizers` returns, from (network, optimiser factory, schedule factory or None) of each.

    Raises:
        UserError: if an optimiser or a schedule refuses its settings, or needs a metric.
    """
    try:
        optimizers = [make([p for p in network.parameters() if p.requires_grad]) for network, make, _ in recipes]
        pairs = zip(optimizers, recipes, strict=True)
        schedules = [schedule(optimizer) for optimizer, (_, _, schedule) in pairs if schedule is not None]
    except ValueError as error:
        raise UserError(
            f"an optimizer or scheduler of the model refuses its init_args ({error}): correct the value"
        ) from error
    if any(isinstance(schedule, ReduceLROnPlateau) for schedule in schedules):
        raise UserError("a scheduler of the model is ReduceLROnPlateau, which needs a metric: use a schedule of steps")
    return optimizers, schedules
