"""How far reconstructions are from held-out rows."""

from typing import Any

from torch import Tensor

from lightning_gen.abilities import Reconstructs, require
from lightning_gen.metrics.held_out.base import Directions, HeldOutRows
from lightning_gen.metrics.held_out.sums import MeanOfRows


class ReconstructionError(MeanOfRows):
    """`reconstruction_mse`: the mean of (x − x̂)² over rows and their entries, x̂ the model's `reconstruct(x)`.

    Images count in units of [0, 1], black to white, without rounding; other samples in their own units. Latents are
    what stands for a row without noise, such as a posterior's mean.
    """

    prefix = "reconstruction_mse"

    @property
    def directions(self) -> Directions:
        """Lower is better."""
        return {self.prefix: False}

    def check(self, model: Any, data: Any) -> None:
        """The model must reconstruct."""
        require(model, Reconstructs, "the metric ReconstructionError", "reconstruct samples")

    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """See how samples are scaled."""
        super().start(first, data, split)
        self._scale = _range(data)

    def numbers(self, rows: HeldOutRows) -> list[Tensor]:
        """(B,) means over entries."""
        difference = (rows.x.double() if rows.x.device.type != "mps" else rows.x) - rows.reconstructions
        return [difference.flatten(1).square().mean(dim=1) / self._scale**2]

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the unit."""
        unit = "entries in [0, 1]" if _range(data) != 1 else "entries as they are"
        return {**super().protocol(model, data), "unit": unit, "rounding": None}


def _range(data: Any) -> float:
    """What one unit is in the model's form: 2 for images, which are in [-1, 1]."""
    from lightning_gen.data.modality import Images  # here, since metrics need no data module of this package

    return 2.0 if isinstance(data.modality, Images) else 1.0
