"""The few things that processes tell each other about codes; with one process each is the identity."""

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """The rank of this process and the number of processes, (0, 1) where there is no other."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def summed(x: Tensor) -> Tensor:
    """The sum of `x` over processes, without gradient."""
    x = x.detach()
    if place()[1] > 1:
        x = x.clone()
        dist.all_reduce(x)
    return x


def gathered(x: Tensor) -> Tensor:
    """The samples (B, …) of all W processes, (B·W, …), in the order that one process would have them.

    Data are dealt out in turn: sample i of the joint batch is with process i mod W.
    """
    world_size = place()[1]
    if world_size == 1:
        return x
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size)]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts, dim=1).flatten(0, 1)


def from_rank_zero(x: Tensor) -> Tensor:
    """What `x` is in the process of rank 0."""
    if place()[1] > 1:
        x = x.contiguous()
        dist.broadcast(x, src=0)
    return x
