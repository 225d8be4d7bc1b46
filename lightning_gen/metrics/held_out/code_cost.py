"""What a prior of codes charges for the codes of held-out rows."""

import math
from typing import Any

from torch import Tensor

from lightning_gen.abilities import PricesCodes, require
from lightning_gen.losses.likelihoods import bits_per_dim
from lightning_gen.metrics.held_out.base import Directions, HeldOutRows
from lightning_gen.metrics.held_out.sums import MeanOfRows


class CodeCost(MeanOfRows):
    """−log p(c | y) of the codes c of held-out rows: `code_cost_nats` a row, and `code_cost_bits_per_dim`.

    The second is nats / (D ln 2) with D the entries of a row, not of its codes. Neither is a likelihood of the rows:
    what is lost between a row and its codes is not charged, so the values compare priors on the codes of one first
    stage.
    """

    prefix = "code_cost"

    @property
    def directions(self) -> Directions:
        """Lower is better."""
        return {"code_cost_nats": False, "code_cost_bits_per_dim": False}

    def check(self, model: Any, data: Any) -> None:
        """The model must be a prior of codes."""
        require(model, PricesCodes, "the metric CodeCost", "say how likely codes are")

    def numbers(self, rows: HeldOutRows) -> list[Tensor]:
        """Nats, and bits a dimension."""
        nats = rows.model.code_nats(rows.x, rows.y)
        return [nats, bits_per_dim(nats, math.prod(rows.x.shape[1:]))]

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the unit."""
        return {
            **super().protocol(model, data),
            "unit": "nats a row's codes, and bits an entry of the row",
            "entries": math.prod(data.sample_shape),
        }
