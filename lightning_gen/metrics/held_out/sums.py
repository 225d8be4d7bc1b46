"""Held-out metrics made of sums over rows, with error bars from sums over blocks of them."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from lightning_gen.metrics.blocks import NUM_BLOCKS, blocks_of, enough, method, standard_error
from lightning_gen.metrics.held_out.base import HeldOutMetric, HeldOutRows


class MeanOfRows(HeldOutMetric):
    """Means of numbers about single rows.

    Beside each value v comes `v_se`, its standard error over the rows by the jackknife over 20 blocks, for sets of at
    least 200 rows. It says how far the value would move with other rows, the model being held fixed.

    A subclass writes `numbers`, in the order of `directions`.
    """

    @abstractmethod
    def numbers(self, rows: HeldOutRows) -> list[Tensor]:
        """(B,) for each of the values that `directions` names, in their order."""

    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """A sum for each block and value, and the number of rows in each block."""
        self.add_state("sums", NUM_BLOCKS, len(self.directions) + 1, device=first.x.device)

    def accumulate(self, rows: HeldOutRows) -> None:
        """Add to the sums of each row's block."""
        sums = self.state("sums")
        columns = [column.to(sums) for column in self.numbers(rows)]
        terms = torch.stack([*columns, sums.new_ones(len(rows))], dim=1)
        sums.index_add_(0, blocks_of(rows.index).to(sums.device), terms)

    def values(self, states: dict[str, Tensor]) -> dict[str, float]:
        """The means over all rows, each followed by its standard error."""
        sums = states["sums"]
        total = sums.sum(dim=0)
        mean = total[:-1] / total[-1]
        found = dict(zip(self.directions, mean.tolist(), strict=True))
        if enough(self.num_rows, NUM_BLOCKS):
            left_out = total - sums
            errors = standard_error(left_out[:, :-1] / left_out[:, -1:])
            found |= {f"{name}_se": error for name, error in zip(list(found), errors.tolist(), strict=True)}
        return found

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds how the error bars are made."""
        return {**super().protocol(model, data), "standard_error": method(NUM_BLOCKS)}
