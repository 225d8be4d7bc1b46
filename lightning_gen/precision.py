"""Numbers of enough digits, whatever the precision of the networks around them; and the precisions to train in."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from lightning_gen.errors import UserError

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
"""What families take as `trainer.precision`: weights have 32 bits at least."""


def full(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def exact(x: Tensor) -> AbstractContextManager:
    """A context in which autocast leaves what is computed on the device of `x` alone."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def check_precision(precision: str, allowed: Sequence[str] = PRECISIONS) -> None:
    """Raise `UserError` unless a model can run in a precision.

    Args:
        precision: as the trainer has it.
        allowed: out of `PRECISIONS`; those with weights of 16 bits never are.
    """
    if precision in allowed:
        return
    reason = "gradients that are scaled are none to make penalties of, or to weigh losses by"
    if precision not in PRECISIONS:
        reason = "losses, running averages and codebooks need more digits than weights of 16 bits have"
    raise UserError(f"trainer.precision is {precision}: {reason}; use any of {', '.join(allowed)}")
