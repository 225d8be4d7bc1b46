"""What losses and codebooks need to know of other processes, so that several train what one does with all samples.

Processes average their gradients; each is to have as many samples as the others, and is dealt them in turn: sample i of
the joint batch is with process i mod W. Without other processes, every function here returns what it was given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_alone = False


@contextmanager
def alone() -> Iterator[None]:
    """Within it nobody is talked to: for checks while the model is not yet where processes can talk (NCCL's GPUs)."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def place() -> tuple[int, int]:
    """The rank of this process and the number of processes, (0, 1) where there is no other, or none is talked to."""
    if not _alone and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def summed(x: Tensor) -> Tensor:
    """The sum of a tensor over processes, without gradient."""
    x = x.detach()
    if place()[1] > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a tensor over processes, without gradient."""
    num_processes = place()[1]
    return summed(x) / num_processes if num_processes > 1 else x.detach()


def from_rank_zero(x: Tensor) -> Tensor:
    """What a tensor is in the process of rank 0."""
    if place()[1] > 1:
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x


def gather(x: Tensor) -> Tensor:
    """Rows (B, …) of all W processes, (W · B, …) in the order that one process would have them in.

    Gradients go to all of them: a loss of the gathered rows that is the same on every process gets the right gradient
    where processes average theirs.
    """
    return _Gather.apply(x) if place()[1] > 1 else x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(place()[1])]
        dist.all_gather(parts, x.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rank, num_processes = place()
        return summed(gradients[0].contiguous())[rank::num_processes]  # every process's loss depends on these rows
