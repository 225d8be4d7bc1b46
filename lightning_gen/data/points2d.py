"""Sets of points in the plane, whose densities are known: where a model fails shows at a glance.

Points are drawn by a generator with a fixed seed, so a set is a function of its arguments, not of the run.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from lightning_gen.data.base import SPLIT_SEED, DataModule, require
from lightning_gen.data.modality import Points
from lightning_gen.data.rows import Rows, TensorRows


class Points2D(DataModule, ABC):
    """Points of a distribution over the plane, (2,) float32; in memory.

    Args:
        num_samples: points to train on, ≥ 1.
        num_val: points in each of the splits val and test, drawn apart, ≥ 1.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(self, num_samples: int = 50_000, num_val: int = 10_000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(num_samples >= 1, "num_samples", num_samples, "at least 1")
        require(num_val >= 1, "num_val", num_val, "at least 1")
        self.num_samples, self.num_val = num_samples, num_val

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(2,)."""
        return (2,)

    @property
    def splits(self) -> tuple[str, ...]:
        """All, drawn independently."""
        return ("train", "val", "test")

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Draw points (count, 2) float32 and, if they have any, their classes (count,) int64."""

    def load_split(self, name: str) -> Rows:
        """Points of the split, drawn from the seed."""
        generator = torch.Generator().manual_seed(SPLIT_SEED + self.splits.index(name))
        return TensorRows(*self.draw(self.num_samples if name == "train" else self.num_val, generator))


class GaussianMixture2D(Points2D, ABC):
    """Isotropic Gaussians of equal weight and equal standard deviation; the class is the Gaussian's number."""

    std: float
    """Standard deviation of each Gaussian, > 0."""

    @property
    @abstractmethod
    def means(self) -> Tensor:
        """Where the Gaussians are: (K, 2) float32."""

    @property
    def num_classes(self) -> int:
        """Number of Gaussians."""
        return len(self.means)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """A Gaussian for each point, then a point of it."""
        mode = torch.randint(len(self.means), (count,), generator=generator)
        return self.means[mode] + self.std * torch.randn(count, 2, generator=generator), mode


class Ring2D(GaussianMixture2D):
    """Gaussians evenly on a circle, the first at angle 0: 8 with σ 0.01 on the unit circle (Metz et al., 1611.02163).

    Args:
        modes: number of Gaussians, ≥ 1.
        radius: of the circle, > 0.
        std: standard deviation of each Gaussian, > 0.
        **kwargs: as `Points2D`.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(self, modes: int = 8, radius: float = 1.0, std: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(modes >= 1, "modes", modes, "at least 1")
        require(radius > 0, "radius", radius, "above 0")
        require(std > 0, "std", std, "above 0")
        self.modes, self.radius, self.std = modes, radius, std
        self.modality = Points(limit=1.5 * radius + 3 * std)

    @property
    def means(self) -> Tensor:
        """(modes, 2)."""
        angle = torch.arange(self.modes) * (2 * math.pi / self.modes)
        return self.radius * torch.stack((angle.cos(), angle.sin()), dim=1)


class Grid2D(GaussianMixture2D):
    """Gaussians on a square grid around the origin: 25 with σ 0.05, from −4 to 4 (Dumoulin et al., 1606.00704).

    Args:
        side: Gaussians a side, ≥ 1; there are side².
        spacing: distance between neighbours, > 0.
        std: standard deviation of each Gaussian, > 0.
        **kwargs: as `Points2D`.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(self, side: int = 5, spacing: float = 2.0, std: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(side >= 1, "side", side, "at least 1")
        require(spacing > 0, "spacing", spacing, "above 0")
        require(std > 0, "std", std, "above 0")
        self.side, self.spacing, self.std = side, spacing, std
        self.modality = Points(limit=side * spacing / 2 + 3 * std)

    @property
    def means(self) -> Tensor:
        """(side², 2), x running fastest."""
        ticks = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        y, x = torch.meshgrid(ticks, ticks, indexing="ij")
        return torch.stack((x.flatten(), y.flatten()), dim=1)


class Moons2D(Points2D):
    """Two interleaving half circles of radius 1, around (0, 0) and (1, ½), equally likely, with Gaussian noise.

    Args:
        noise: standard deviation of the noise, ≥ 0.
        **kwargs: as `Points2D`.

    Raises:
        UserError: an argument is out of its range.
    """

    modality = Points(limit=3.0)

    def __init__(self, noise: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(noise >= 0, "noise", noise, "0 or more")
        self.noise = noise

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """The upper half circle, or its image under a turn by 180° around (½, ¼)."""
        angle = math.pi * torch.rand(count, generator=generator)
        upper = torch.stack((angle.cos(), angle.sin()), dim=1)
        lower = torch.tensor([1.0, 0.5]) - upper
        points = torch.where(torch.rand(count, 1, generator=generator) < 0.5, upper, lower)
        return points + self.noise * torch.randn(count, 2, generator=generator), None


class Checkerboard2D(Points2D):
    """Uniform on 8 of the 16 squares, of side 2, of the board [-4, 4]²: those with an even sum of row and column.

    Its density is 1/32 there and 0 elsewhere, so its entropy is ln 32 ≈ 3.466 nats. Arguments: see `Points2D`.
    """

    modality = Points(limit=4.5)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """A square for each point, then a point of it."""
        square = torch.randint(8, (count,), generator=generator)
        row = square // 2
        column = 2 * (square % 2) + row % 2
        corner = 2.0 * torch.stack((column, row), dim=1) - 4
        return corner + 2 * torch.rand(count, 2, generator=generator), None
