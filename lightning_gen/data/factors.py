"""Images of which every factor of variation is known: what disentanglement is measured on."""

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor

from lightning_gen.data.base import DataModule, holdout, require
from lightning_gen.data.modality import Images
from lightning_gen.data.resize import size_pair
from lightning_gen.data.rows import Rows, TensorRows

_SUPERSAMPLING = 3
_CHUNK = 512


class Factors(DataModule):
    """White figures on black, one image for every combination of five factors; in memory, nothing to download.

    | factor | values |
    |---|---|
    | shape | triangle, L, half disc: none looks the same after a turn |
    | scale | 0.5 to 1 of the largest |
    | orientation | a whole turn |
    | x, y | the place of the middle, as far as the largest figure stays inside |

    In the manner of dSprites (Matthey et al., 2017, whose images are larger and more); figures, sizes and renderer are
    this package's. Factors are independent and uniform over all images; a share of them, drawn by a fixed seed, is
    held out as `val`.

    Args:
        image_size: height and width in pixels, ≥ 8.
        num_scales: values of the scale, ≥ 1.
        num_orientations: values of the orientation, ≥ 1.
        num_positions: values of each of x and y, ≥ 1.
        val_fraction: share of the images held out, in [0, 1).
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range.
    """

    modality = Images()
    factor_names = ("shape", "scale", "orientation", "x", "y")

    def __init__(
        self,
        image_size: int = 32,
        num_scales: int = 4,
        num_orientations: int = 8,
        num_positions: int = 8,
        val_fraction: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require(image_size >= 8, "image_size", image_size, "at least 8")
        for key, value in (
            ("num_scales", num_scales),
            ("num_orientations", num_orientations),
            ("num_positions", num_positions),
        ):
            require(value >= 1, key, value, "at least 1")
        require(0 <= val_fraction < 1, "val_fraction", val_fraction, "in [0, 1)")
        self.size, self.val_fraction = size_pair(image_size), val_fraction
        self.factor_sizes = (3, num_scales, num_orientations, num_positions, num_positions)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(1, image_size, image_size)."""
        return (1, *self.size)

    @property
    def splits(self) -> tuple[str, ...]:
        """Train, and val unless `val_fraction` is 0."""
        return ("train", "val") if self.val_fraction else ("train",)

    def factors(self, split: str) -> Tensor:
        """(N, 5) int64: of each image of a split, which value each factor has."""
        every = torch.tensor(list(product(*map(range, self.factor_sizes))))
        train, val = holdout(len(every), self.val_fraction)
        return every[{"train": train, "val": val}[split]]

    def load_split(self, name: str) -> Rows:
        """The images of the split as uint8 (N, 1, H, W)."""
        parts = self.factors(name).split(_CHUNK)
        return TensorRows(torch.cat([self._render(part) for part in parts]))

    def _render(self, factors: Tensor) -> Tensor:
        """(N, 1, H, W) uint8: the share of each pixel that the figure covers."""
        shape, scale, turn, x, y = factors.double().T
        _, scales, turns, places, _ = self.factor_sizes
        radius = 0.4 * (0.5 + 0.5 * scale / max(scales - 1, 1))
        angle = 2 * math.pi * turn / turns
        middle = [0.4 * (2 * place / max(places - 1, 1) - 1) if places > 1 else 0 * place for place in (x, y)]
        height, width = (side * _SUPERSAMPLING for side in self.size)
        rows = (2 * torch.arange(height).double() + 1) / height - 1
        columns = (2 * torch.arange(width).double() + 1) / width - 1
        u = (columns[None, None, :] - middle[0][:, None, None]) / radius[:, None, None]
        v = (rows[None, :, None] - middle[1][:, None, None]) / radius[:, None, None]
        cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
        a, b = cos * u + sin * v, cos * v - sin * u
        figures = torch.stack((_triangle(a, b), _ell(a, b), _half_disc(a, b)))
        inside = figures[shape.long(), torch.arange(len(factors))]
        covered = torch.nn.functional.avg_pool2d(inside.float()[:, None], _SUPERSAMPLING)
        return (covered * 255).round().to(torch.uint8)


def _triangle(a: Tensor, b: Tensor) -> Tensor:
    """Isosceles, its tip at b = −1."""
    return (b <= 0.7) & (a.abs() <= 0.4 * (b + 1))


def _ell(a: Tensor, b: Tensor) -> Tensor:
    """Two bars."""
    upright = (a >= -0.6) & (a <= -0.1) & (b.abs() <= 0.8)
    foot = (a >= -0.6) & (a <= 0.6) & (b >= 0.3) & (b <= 0.8)
    return upright | foot


def _half_disc(a: Tensor, b: Tensor) -> Tensor:
    """Above b = 0.4."""
    return (a.square() + (b - 0.4).square() <= 0.81) & (b <= 0.4)
