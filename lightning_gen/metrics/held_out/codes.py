"""How much of a codebook a model uses."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from lightning_gen.abilities import HasCodes, require
from lightning_gen.metrics.held_out.base import Directions, HeldOutMetric, HeldOutRows


class CodeUsage(HeldOutMetric):
    """`code_usage`, the share of the K codes that the rows use at all, and `code_perplexity`, how evenly they do.

    The perplexity is exp(−Σ_k p_k log p_k) with p the frequencies of codes over all places of all rows: K where all
    are equally frequent, 1 where all places hold one code. Of a model with several levels of codes both are means over
    the levels, and `code_usage_level<l>` and `code_perplexity_level<l>` come beside them, coarse to fine.
    """

    prefix = "code_usage"

    @property
    def directions(self) -> Directions:
        """Higher is better: codes that are not used are of no use."""
        return {"code_usage": True, "code_perplexity": True}

    def check(self, model: Any, data: Any) -> None:
        """The model must turn samples into codes."""
        require(model, HasCodes, "the metric CodeUsage", "turn samples into codes")

    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """A count for each code of each level."""
        model = first.model
        self._places = [prod(shape) for shape in model.code_shapes(tuple(first.x.shape[1:]))]
        self.add_state("counts", len(self._places), model.num_codes, device=first.x.device)

    def accumulate(self, rows: HeldOutRows) -> None:
        """Count a batch."""
        counts = self.state("counts")
        codes = rows.model.codes(rows.x, rows.y).to(counts.device)
        for level, of_level in zip(counts, codes.split(self._places, dim=1), strict=True):
            found = of_level.flatten()
            level.index_add_(0, found, torch.ones_like(found, dtype=counts.dtype))

    def values(self, states: dict[str, Tensor]) -> dict[str, float]:
        """Means over levels, then each level where there are several."""
        counts = states["counts"]
        usage = (counts > 0).double().mean(dim=1)
        perplexity = torch.special.entr(counts / counts.sum(dim=1, keepdim=True)).sum(dim=1).exp()
        found = {"code_usage": usage.mean().item(), "code_perplexity": perplexity.mean().item()}
        if len(counts) > 1:
            for name, values in (("code_usage", usage), ("code_perplexity", perplexity)):
                found |= {f"{name}_level{level}": value for level, value in enumerate(values.tolist())}
        return found

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds K."""
        return {**super().protocol(model, data), "num_codes": model.num_codes}
