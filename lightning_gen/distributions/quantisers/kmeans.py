"""The nearest of some vectors, and vectors that are near to many: k-means, without a word to the host."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.precision import exact

_ENTRIES = 2**25  # of the table of distances that is made at a time: 128 MiB in float32
_UNITS = 2**30


@torch.no_grad()
def nearest(v: Tensor, codebook: Tensor) -> Tensor:
    """Which code is nearest to each vector, argmin_k ‖v − e_k‖.

    Args:
        v: (N, d), float32 or float64.
        codebook: (K, d), of the same type.

    Returns:
        (N,) int64.
    """
    with exact(v):
        half = codebook.square().sum(1) / 2  # ‖v‖² is the same for all codes: leaving it out saves digits, too
        parts = v.split(max(_ENTRIES // len(codebook), 1))
        return torch.cat([torch.addmm(half, part, codebook.T, alpha=-1).argmin(1) for part in parts])


def sums_of(v: Tensor, codes: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """How many of the vectors (N, d) have each code, (K,), and their sums, (K, d)."""
    counts = torch.zeros(num_codes, dtype=v.dtype, device=v.device)
    sums = torch.zeros(num_codes, v.shape[1], dtype=v.dtype, device=v.device)
    return counts.index_add_(0, codes, torch.ones_like(v[:, 0])), sums.index_add_(0, codes, v)


@torch.no_grad()
def spread(v: Tensor, words: Tensor) -> Tensor:
    """Vectors that are far from each other: each is drawn in proportion to the squared distance to those before it.

    The start of k-means++ (Arthur, Vassilvitskii, SODA 2007, section 2.2). Where all vectors have been taken, any may
    be taken again.

    Args:
        v: (N, d).
        words: (K,) int64 random numbers in [0, 2³²).

    Returns:
        (K, d) out of `v`.
    """
    distances = torch.full_like(v[:, 0], torch.inf)
    weights = torch.ones_like(distances)
    chosen = []
    for word in words.split(1):
        shares = (weights / weights.sum() * _UNITS).to(torch.int64)  # sums of integers are the same on every device
        ends = shares.cumsum(0)
        index = torch.searchsorted(ends, (word * ends[-1:]) >> 32, right=True).clamp(max=len(v) - 1)
        chosen.append(v.index_select(0, index))
        distances = torch.minimum(distances, (v - chosen[-1]).square().sum(1))
        weights = torch.where(distances.sum() > 0, distances, torch.ones_like(distances))
    return torch.cat(chosen)


@torch.no_grad()
def kmeans(v: Tensor, centres: Tensor, iterations: int, settle: Callable[[Tensor], Tensor]) -> Tensor:
    """Lloyd's iterations: each centre moves to the mean of the vectors that are nearest to it; without any it stays.

    Args:
        v: (N, d).
        centres: (K, d) to start from.
        iterations: ≥ 0.
        settle: brings moved centres back to where they may be.

    Returns:
        (K, d).
    """
    for _ in range(iterations):
        counts, sums = sums_of(v, nearest(v, centres), len(centres))
        means = settle(sums / counts.clamp(min=1)[:, None])
        centres = torch.where(counts[:, None] > 0, means, centres)
    return centres
