"""Blocks of a set, and the jackknife over them: how far a value would move with another set of the same size.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 11; with whole blocks left out in turn
(Shao and Wu, "A general theory for jackknife variance estimation", Annals of Statistics 17, 1989).
"""

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.noise import sample_seeds

NUM_BLOCKS = 20
MIN_BLOCK = 10
"""Samples that a block must hold on average for its absence to say anything."""
STUDENT_95 = 2.093
"""Half the width of a 95 % interval in standard errors: Student's quantile at 0.975 of 19 degrees of freedom."""


def blocks_of(index: Tensor, blocks: int = NUM_BLOCKS) -> Tensor:
    """The block of each sample, of its position in the set alone: no number of samples need be known.

    Any `blocks` samples in a row fall into different blocks, in an order that is turned by a hash from one row to the
    next: a set sorted by class, or one that repeats its classes in turn, has every class in every block.

    Args:
        index: (B,) int64 positions, ≥ 0.
        blocks: ≥ 1.

    Returns:
        (B,) int64 in [0, blocks).
    """
    turn = sample_seeds(0, index // blocks) % blocks  # a hash, used as one
    return (index + turn) % blocks


def require_blocks(metric: str, blocks: int) -> None:
    """Refuse a number of blocks that is neither 0, for no error bars, nor at least 2.

    Raises:
        UserError: naming the metric.
    """
    if blocks < 0 or blocks == 1:
        raise UserError(f"{metric}: blocks is {blocks}, but must be at least 2, or 0 for no error bars")


def method(blocks: int) -> str | None:
    """How error bars are made, for protocols."""
    return f"jackknife over {blocks} blocks of at least {MIN_BLOCK} samples" if blocks else None


def enough(num_samples: int, blocks: int) -> bool:
    """Whether a set is large enough to be cut into `blocks`."""
    return blocks >= 2 and num_samples >= MIN_BLOCK * blocks


def standard_error(left_out: Tensor) -> Tensor:
    """√((b − 1) Var) of the values with one block left out each, Var over b.

    Args:
        left_out: (b, …) float64, b ≥ 2.

    Returns:
        (…) float64, ≥ 0.
    """
    return ((len(left_out) - 1) * left_out.var(dim=0, correction=0)).sqrt()


def bias(value: Tensor, left_out: Tensor) -> Tensor:
    """(b − 1)(mean of the values with a block left out − value): what an estimate owes to the size of its set.

    Exact where the expected value is a + c / N.

    Args:
        value: of the whole set, (…) float64.
        left_out: (b, …) float64.
    """
    return (len(left_out) - 1) * (left_out.mean(dim=0) - value)
