"""What metrics of disentanglement share: the latents of all rows, and the factors that made them."""

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from lightning_gen.abilities import HasVectorLatents, require
from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out.base import Directions, HeldOutMetric, HeldOutRows
from lightning_gen.noise import sample_seeds

SPLIT_SEED = 0
"""Says which rows a probe is fitted to, and which it is tested on."""


@runtime_checkable
class HasFactors(Protocol):
    """Data whose samples are made of known factors."""

    factor_names: tuple[str, ...]
    """F of them."""

    def factors(self, split: str) -> Tensor:
        """(N, F) int64: the value of each factor, for each row of a split."""


class FactorMetric(HeldOutMetric):
    """A function of latents (N, d) and factors (N, F) of all rows.

    Factors that have one value in all rows do not count. A subclass writes `scores`.
    """

    @property
    def directions(self) -> Directions:
        """Higher is better."""
        return {self.prefix: True}

    @abstractmethod
    def scores(self, z: np.ndarray, v: np.ndarray) -> dict[str, float]:
        """The values.

        Args:
            z: (N, d) float64 latents, finite.
            v: (N, F) int64 factors, each with at least two values, numbered from 0 without gaps; F ≥ 1.
        """

    def check(self, model: Any, data: Any) -> None:
        """Latents must be vectors, and factors known."""
        asker = f"the metric {type(self).__name__}"
        require(model, HasVectorLatents, asker, "encode samples as vectors")
        if not isinstance(data, HasFactors):
            raise UserError(
                f"{asker} needs data whose factors are known, which those of {type(data).__name__} are not: leave it"
                " out, or use data with factors"
            )

    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """A place for each row's latents."""
        v = data.factors(split)[: self.num_rows].cpu().numpy()
        varying = [k for k in range(v.shape[1]) if len(np.unique(v[:, k])) > 1]
        if not varying:
            raise UserError(
                f"{type(self).__name__}: no factor varies in the {len(v)} rows of split {split!r} that are measured:"
                " set num_held_out higher"
            )
        self._factors = np.stack([np.unique(v[:, k], return_inverse=True)[1] for k in varying], axis=1)
        self.add_state("latents", self.num_rows, first.latents.shape[1], device=first.x.device)

    def accumulate(self, rows: HeldOutRows) -> None:
        """Write latents to their places."""
        latents = self.state("latents")
        latents[rows.index.to(latents.device)] = rows.latents.to(latents)

    def values(self, states: dict[str, Tensor]) -> dict[str, float]:
        """The scores of all rows."""
        z = states["latents"].numpy()
        if not np.isfinite(z).all():
            raise UserError(f"{type(self).__name__}: the model encodes some rows as NaN or infinite values")
        return self.scores(z, self._factors)

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the factors."""
        return {**super().protocol(model, data), "factors": list(data.factor_names), "latent_dim": model.latent_dim}


def halves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two boolean masks (count,) that split rows about evenly, by a hash of their place."""
    first = (sample_seeds(SPLIT_SEED, torch.arange(count)) % 2 == 0).numpy()
    return first, ~first


def gaps(table: np.ndarray) -> np.ndarray:
    """How far the largest entry of each column of (d, F) is above the second largest, (F,); the largest if d is 1."""
    ordered = np.sort(np.concatenate([np.zeros((1, table.shape[1])), table]), axis=0)
    return ordered[-1] - ordered[-2]
