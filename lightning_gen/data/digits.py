"""Scikit-learn's handwritten digits: real images that need no download."""

from typing import Any

import torch

from lightning_gen.data.base import DataModule, holdout, require
from lightning_gen.data.modality import Images
from lightning_gen.data.resize import size_pair
from lightning_gen.data.rows import Rows, TensorRows


class Digits(DataModule):
    """The 1,797 digits of scikit-learn, 8×8 with 17 levels of grey, 10 classes; in memory.

    Levels 0–16 become 0–255 and images are brought to `image_size` by bilinear interpolation, then rounded. With the
    default `val_fraction` there are 1,438 training and 359 validation images, always the same ones; there is no test
    split. (Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.)

    Args:
        image_size: height and width in pixels, ≥ 1.
        val_fraction: share of the images held out for validation, in [0, 1).
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range.
    """

    modality = Images()

    def __init__(self, image_size: int = 32, val_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require(0 <= val_fraction < 1, "val_fraction", val_fraction, "in [0, 1)")
        self.size, self.val_fraction = size_pair(image_size), val_fraction

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(1, image_size, image_size)."""
        return (1, *self.size)

    @property
    def splits(self) -> tuple[str, ...]:
        """Train, and val unless `val_fraction` is 0."""
        return ("train", "val") if self.val_fraction else ("train",)

    @property
    def num_classes(self) -> int:
        """10."""
        return 10

    @property
    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]

    def load_split(self, name: str) -> Rows:
        """The images of the split as uint8 (N, 1, H, W), with classes."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        levels = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
        # levels are interpolated before they are rounded to 8 bits, and once
        resized = torch.nn.functional.interpolate(levels, self.size, mode="bilinear", align_corners=False)
        rows = TensorRows(resized.round().to(torch.uint8), torch.from_numpy(digits.target))
        train, val = holdout(len(rows), self.val_fraction)
        return rows.subset({"train": train, "val": val}[name])
