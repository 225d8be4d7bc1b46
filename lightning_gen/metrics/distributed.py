"""The few collectives that metrics need; for a `world_size` of 1 each is the identity.

A process that fails must not leave the others waiting, so failures travel with the collectives.
"""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_gen.errors import UserError

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether there is more than one process to talk to."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def all_reduced(tensor: Tensor, group: Any = None) -> list[Tensor]:
    """The sum of `tensor` over the processes, on its device, as the one entry of a list.

    The form is that of torchmetrics' `dist_sync_fn`, which expects one entry a process and then adds them up: one
    reduction moves far less than gathering everybody's states.
    """
    total = tensor.detach().to(_device(), copy=True).contiguous()
    dist.all_reduce(total, group=group)
    return [total.to(tensor.device)]


def require_group(world_size: int) -> None:
    """Refuse to share work among processes that cannot talk.

    Raises:
        ValueError: if `world_size` > 1 and there is no process group.
    """
    if world_size > 1 and not is_distributed():
        raise ValueError(f"world_size is {world_size}, but torch.distributed is not initialised")


def all_sum(tensor: Tensor, world_size: int) -> Tensor:
    """The sum of `tensor` over the processes, or `tensor` where there is only one."""
    return all_reduced(tensor)[0] if world_size > 1 else tensor


def raise_together(error: Exception | None, world_size: int) -> None:
    """Raise `error` here, and a UserError in every process that has none if any other has one.

    Raises:
        Exception: `error`, or a UserError that says that another process failed.
    """
    failures = all_sum(torch.tensor(float(error is not None)), world_size)
    if error is not None:
        raise error
    if failures > 0:
        raise UserError("another process failed, so this one stops too; the reason is in its output")


def together(function: Callable[[], T], world_size: int) -> T:
    """The value of `function()`; where it fails in one process, all stop.

    Raises:
        Exception: see `raise_together`.
    """
    error: Exception | None = None
    value: Any = None
    try:
        value = function()
    except Exception as failure:
        error = failure
    raise_together(error, world_size)
    return value


def from_rank_zero(function: Callable[[], T], world_size: int) -> T:
    """The value of `function()` in the process of rank 0, in every process.

    Raises:
        Exception: what it raised in rank 0, which the other processes see as a UserError.
    """
    if world_size == 1:
        return function()
    answer: list[Any] = [None, None]
    failure: Exception | None = None
    if dist.get_rank() == 0:
        try:
            answer[0] = function()
        except Exception as error:  # whatever it is, the others are waiting to hear of it
            failure, answer[1] = error, str(error) or type(error).__name__
    dist.broadcast_object_list(answer, src=0, device=_device())
    if failure is not None:
        raise failure
    if answer[1] is not None:
        raise UserError(answer[1])
    return answer[0]


def warn(message: str) -> None:
    """Warn once for all processes."""
    if not is_distributed() or dist.get_rank() == 0:
        warnings.warn(message, UserWarning, stacklevel=3)


def _device() -> torch.device:
    """Where tensors must be to be sent: NCCL knows only CUDA."""
    backend = str(dist.get_backend())
    return torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")
