"""Units of likelihoods."""

from math import log, log2
from typing import TypeVar

from torch import Tensor

Number = TypeVar("Number", float, Tensor)


def bits_per_dim(nats: Number, num_entries: int) -> Number:
    """−log p in nats a sample, of discrete data, as bits an entry.

    Args:
        nats: −log p (or −ELBO), of probabilities.
        num_entries: D, how many numbers a sample has.

    Returns:
        nats / (D log 2).
    """
    return nats / (num_entries * log(2))


def dequantised_bits_per_dim(nats: Number, num_entries: int, levels: int = 256) -> Number:
    """−log of a density of dequantised data in nats a sample, as bits an entry of the discrete data.

    Data with L levels that fill [-1, 1] as x = 2(k + u)/L − 1, u ~ U[0, 1), have bins of width 2/L, so that
    log P(k) ≥ E_u[log p(x)] + D log(2/L) (Theis, van den Oord, Bethge, ICLR 2016): log2(L) − 1 bits more.

    Args:
        nats: −log p of a density with respect to x in [-1, 1]. Where it is one of logits of x, or of anything else,
            the logarithm of that map's Jacobian must be in it already.
        num_entries: D.
        levels: L.

    Returns:
        nats / (D log 2) + log2(L/2).
    """
    return bits_per_dim(nats, num_entries) + (log2(levels) - 1)
