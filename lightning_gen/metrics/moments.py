"""Means and covariances of features, in float64."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.distributed import all_sum
from lightning_gen.metrics.extractors import FeatureExtractor


def covariance_factor(cov: Tensor) -> Tensor:
    """F with F Fᵀ = `cov`, from the eigenvalues that are not rounding noise.

    Args:
        cov: (d, d) float64, symmetric, positive semi-definite up to rounding.

    Returns:
        (d, r) float64, r the numerical rank.
    """
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    keep = values > len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)
    return vectors[:, keep] * values[keep].sqrt()


@dataclass(frozen=True, eq=False)
class ReferenceStatistics:
    """What is known of the data: the Gaussian of their features and, where asked for, more.

    Attributes:
        mean: (d,) float64.
        cov: (d, d) float64, normalised by n − 1.
        n: number of samples behind it, ≥ 2; None where imported statistics do not tell.
        protocol: how it came about (extractor, split, fingerprint of the data); JSON-able.
        spatial: mean and covariance of the spatial features, or None.
        features: (n, d) float32, those of each sample in the order of the data, or None.
        y: (n,) int64 classes, where `features` are kept and the data have classes.
    """

    mean: Tensor
    cov: Tensor
    n: int | None
    protocol: dict[str, Any] = field(default_factory=dict)
    spatial: "ReferenceStatistics | None" = None
    features: Tensor | None = None
    y: Tensor | None = None

    @cached_property
    def factor(self) -> Tensor:
        """(d, r) float64, F with F Fᵀ = cov; computed once."""
        return covariance_factor(self.cov)

    @property
    def rows(self) -> Tensor:
        """`features`, of a reference that was made with them."""
        assert self.features is not None
        return self.features

    def to(self, device: torch.device | str) -> "ReferenceStatistics":
        """The same statistics on `device`."""
        if self.mean.device == torch.device(device):
            return self
        return replace(
            self,
            mean=self.mean.to(device),
            cov=self.cov.to(device),
            spatial=self.spatial and self.spatial.to(device),
            features=None if self.features is None else self.features.to(device),
            y=None if self.y is None else self.y.to(device),
        )

    def check(self, name: str, extractor: FeatureExtractor) -> None:
        """Make sure that the metric `name` on `extractor` may be compared with this.

        Raises:
            UserError: if it was made by another extractor, with other weights, resize, dtype or rounding, or of fewer
                than 2 samples.
        """
        if self.n is not None and self.n < 2:
            raise UserError(f"the reference of {name} holds {self.n} samples, but needs at least 2")
        made = self.protocol.get("extractor")
        if made is None:  # imported numbers, of which only the size is known
            return
        used = extractor.protocol()
        if differing := sorted(key for key in made.keys() | used.keys() if made.get(key) != used.get(key)):
            told = "; ".join(f"{key} {made.get(key)!r}, not {used.get(key)!r}" for key in differing)
            raise UserError(f"the reference of {name} was made with another extractor ({told}): make it anew")


class Moments:
    """Running mean and covariance of (·, d) features, shared out over processes in any way, none included.

    Args:
        num_features: d.
    """

    def __init__(self, num_features: int) -> None:
        self._centre: Tensor | None = None
        self._count = 0
        self._sum = torch.zeros(num_features, dtype=torch.float64)
        self._square = torch.zeros(num_features, num_features, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add (B, d) features; large B are faster."""
        if len(features) == 0:
            return
        x = features.detach().to("cpu", torch.float64)
        if self._centre is None:
            # sums about a point of the cloud lose nothing when the cloud is far from the origin
            self._centre = x[0].clone()
        x = x - self._centre
        self._count += len(x)
        self._sum += x.sum(dim=0)
        self._square += x.T @ x

    def reduce(self, world_size: int = 1) -> tuple[Tensor, Tensor, int]:
        """Mean (d,), covariance (d, d; n − 1) and n of everything that all processes have seen.

        With n < 2 the covariance is NaN. Every one of
        `world_size` processes must call it.
        """
        own = torch.zeros_like(self._sum) if self._centre is None else self._centre + self._sum / self._count
        scatter = self._square - torch.outer(self._sum, self._sum) / max(self._count, 1)
        n = all_sum(torch.tensor(float(self._count), dtype=torch.float64), world_size)
        mean = all_sum(self._count * own, world_size) / n
        # the scatter about the common mean: each process's own, moved there
        scatter = all_sum(scatter + self._count * torch.outer(own - mean, own - mean), world_size)
        cov = scatter / (n - 1) if n > 1 else torch.full_like(scatter, torch.nan)
        return mean, cov, int(n)
