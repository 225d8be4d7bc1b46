"""In which order flows take the entries of a vector."""

import torch
from torch import Tensor


def alternating_orders(dim: int, count: int) -> list[Tensor]:
    """`count` permutations (D,): the entries as they are and reversed in turn."""
    order = torch.arange(dim)
    return [order if k % 2 == 0 else order.flip(0) for k in range(count)]


def random_orders(dim: int, count: int, seed: int) -> list[Tensor]:
    """`count` permutations (D,), the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(dim, generator=generator) for _ in range(count)]
