"""FID of infinitely many samples, extrapolated from the set and its parts."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import MIN_BLOCK, NUM_BLOCKS, standard_error
from lightning_gen.metrics.distributed import warn
from lightning_gen.metrics.extractors import FeatureExtractor
from lightning_gen.metrics.fid import FID


def intercept(x: Tensor, y: Tensor) -> Tensor:
    """Where the straight lines of least squares through points meet x = 0.

    Args:
        x: (p, …) float64, p ≥ 2, not all equal.
        y: (p, …).

    Returns:
        (…) float64.
    """
    centred = x - x.mean(dim=0)
    slope = (centred * y).sum(dim=0) / centred.square().sum(dim=0)
    return y.mean(dim=0) - slope * x.mean(dim=0)


class FIDInfinity(FID):
    """FID∞: the intercept of the straight line through FID of n samples over 1/n.

    Source: Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", CVPR 2020,
    section 4. Their sizes are random subsets. Here the set is cut into k equal parts for the first `points` divisors k
    of `blocks`, and FID of N/k samples is the mean over the k parts. It estimates the same, but every sample counts
    alike at every size, so most of the noise of small sizes, which extrapolation magnifies, cancels; and parts are
    made of the blocks whose sums FID keeps anyway.

    The estimate may fall below 0 where FID is nearly 0. The line is straight only where the smallest part (with 4
    points a fifth of the set) holds more samples than there are features, which is warned about. `FID`'s own
    `_jackknife` removes the same bias by a shorter lever, and at no cost.

    Beside it stands `<name>_se`: each block is left out in turn, and everything repeated.

    Args:
        extractor: what describes the samples.
        points: number of sizes, ≥ 2; 4 are the whole set, halves, quarters and fifths of it. Each costs as many
            eigendecompositions of (d, d) matrices as there are blocks.
        blocks: number of blocks, with more than `points` divisors.

    Raises:
        UserError: if `points` is below 2, or `blocks` is below 2 or has too few divisors.
    """

    prefix = "fid_infinity"
    corrects_bias = False

    def __init__(self, extractor: FeatureExtractor, points: int = 4, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        divisors = [k for k in range(1, blocks) if blocks % k == 0]
        if not 2 <= points <= len(divisors):
            raise UserError(
                f"FIDInfinity: points is {points}, but must be at least 2 and, for {blocks} blocks, at most "
                f"{len(divisors)}: their divisors but themselves"
            )
        self.parts = divisors[:points]

    def min_samples(self) -> int:
        """Enough for every block to say something."""
        return MIN_BLOCK * self.blocks

    def check(self, num_samples: int) -> None:
        """Refuse too few samples for the blocks, and warn where the line is not straight."""
        super(FID, self).check(num_samples)
        smallest = num_samples // self.parts[-1]
        if smallest <= self.num_features:
            warn(
                f"{self.name} extrapolates from parts of {smallest} samples, too few for the {self.num_features} "
                f"features of its extractor: raise num_samples above {self.parts[-1] * self.num_features}"
            )

    def compute_all(self) -> dict[str, Tensor]:
        """The intercept, and its standard error."""
        x, y, x_without, y_without = (torch.stack(each) for each in zip(*map(self._point, self.parts), strict=True))
        return {self.name: intercept(x, y), f"{self.name}_se": standard_error(intercept(x_without, y_without))}

    def protocol(self) -> dict[str, Any]:
        """Adds the sizes."""
        sizes = ", ".join(f"N/{k}" for k in self.parts)
        return {**super().protocol(), "extrapolation": f"least squares on 1/n, n = {sizes}, means over equal parts"}

    def _point(self, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """1/n and FID of a k-th of the set, the means over parts; the same without each block, (blocks,) each."""
        states = {name: getattr(self, name) for name in self._sums}
        width = self.blocks // k
        x, y = self.block_count.new_zeros(2)
        x_change, y_change = self.block_count.new_zeros(2, self.blocks)
        for first in range(0, self.blocks, width):
            part = {name: state[first : first + width].sum(dim=0) for name, state in states.items()}
            x += 1 / part["block_count"] / k
            y += self.values(part)[self.name] / k
            whole = self.replicate(part)[self.name]
            for b in range(first, first + width):
                rest = {name: part[name] - state[b] for name, state in states.items()}
                x_change[b] = (1 / rest["block_count"] - 1 / part["block_count"]) / k
                y_change[b] = (self.replicate(rest)[self.name] - whole) / k
        return x, y, x + x_change, y + y_change
