"""How much of a codebook is used."""

import torch
from torch import Tensor

from lightning_gen.losses.processes import summed

MOST_CODES = 2**20
"""Of a quantiser without a codebook, which can have any number: counts of them are 4 MiB."""


def count(codes: Tensor, num_codes: int, everywhere: bool) -> Tensor:
    """How often each code occurs.

    Args:
        codes: int64 in [0, K), of any shape.
        num_codes: K.
        everywhere: add up over processes, which then must all come by.

    Returns:
        (K,) float32, exact up to 2²⁴ of each.
    """
    codes = codes.flatten()
    ones = torch.ones(codes.shape, device=codes.device)
    counts = torch.zeros(num_codes, device=codes.device).scatter_add_(0, codes, ones)
    return summed(counts) if everywhere else counts


def usage_terms(counts: Tensor) -> dict[str, Tensor]:
    """Perplexity and used share from counts (…, K), averaged over what stands before the codes."""
    p = counts / counts.sum(-1, keepdim=True)
    return {
        "codebook_perplexity": (-torch.xlogy(p, p).sum(-1)).exp().mean(),
        "codebook_usage": (counts > 0).to(counts.dtype).mean(),
    }
