"""What losses need to know of other processes, so that several give the gradient of one with all their samples.

Processes average their gradients; each is to have as many samples as the others. Without other processes, every
function here returns what it was given.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether there are processes to talk to."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of a tensor over processes, without gradient."""
    x = x.detach()
    if not is_distributed():
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def gather(x: Tensor) -> Tensor:
    """Rows (B, …) of all processes, (W · B, …) in the order of their ranks, with gradients to all of them.

    A loss of the gathered rows that is the same on every process gets the right gradient where processes average
    theirs.
    """
    return _Gather.apply(x) if is_distributed() else x


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)  # every process's loss depends on these rows
        return total.chunk(dist.get_world_size())[dist.get_rank()]
