"""How many latent variables a model uses."""

from typing import Any

from torch import Tensor

from lightning_gen.abilities import HasVectorLatents, require
from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out.base import Directions, HeldOutMetric, HeldOutRows


class ActiveUnits(HeldOutMetric):
    """`active_units`: how many of the numbers that `encode` gives have a variance over rows above a threshold.

    Where `encode` gives the posterior's mean this is Var_x(E_q[z_j | x]) of Burda et al., "Importance Weighted
    Autoencoders", ICLR 2016, section 5.2, who use 0.01. The variance is by N. All numbers count: of a ladder those of
    all levels, of categorical latents each entry of the one-hot vectors. It depends on the scale of the latents, so the
    threshold is made for models with a prior of unit variance.

    Args:
        threshold: ≥ 0.

    Raises:
        UserError: if it is below 0.
    """

    prefix = "active_units"

    def __init__(self, threshold: float = 0.01) -> None:
        super().__init__()
        if not threshold >= 0:
            raise UserError(f"ActiveUnits.threshold is {threshold}: it must be at least 0")
        self.threshold = threshold

    @property
    def directions(self) -> Directions:
        """More are neither better nor worse."""
        return {self.prefix: None}

    def check(self, model: Any, data: Any) -> None:
        """The model must encode samples as vectors."""
        require(model, HasVectorLatents, "the metric ActiveUnits", "encode samples as vectors")

    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """Sums of latents and of their squares, about the first row's: its size does not cost digits."""
        self._origin = first.latents
        self.add_state("sums", 2, first.latents.shape[1], device=first.x.device)

    def accumulate(self, rows: HeldOutRows) -> None:
        """Add a batch."""
        sums = self.state("sums")
        z = rows.latents.to(sums) - self._origin.to(sums)
        sums[0] += z.sum(dim=0)
        sums[1] += z.square().sum(dim=0)

    def values(self, states: dict[str, Tensor]) -> dict[str, float]:
        """How many have a variance above the threshold."""
        first, second = states["sums"] / self.num_rows
        return {self.prefix: int((second - first.square() > self.threshold).sum())}

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the threshold, and of how many numbers."""
        return {**super().protocol(model, data), "threshold": self.threshold, "latent_dim": model.latent_dim}
