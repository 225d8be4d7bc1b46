"""Images in NumPy files."""

import zlib
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from lightning_gen.data.base import DataModule, holdout, require
from lightning_gen.data.modality import Images
from lightning_gen.data.resize import cover, size_pair
from lightning_gen.data.rows import Rows, TensorRows
from lightning_gen.errors import UserError, nearest


class ImageArrays(DataModule):
    """Images in `.npy` or `.npz` files: uint8, (N, H, W, C), (N, H, W) or (N, C, H, W); several make a set; in memory.

    A four-dimensional array whose last side is 1, 3 or 4 is read as (N, H, W, C), else as (N, C, H, W).

    Args:
        paths: a file, a pattern such as `parts/*.npz` (its files are taken in sorted order), or a list of these.
        images_key: name of the images in `.npz` files.
        labels_key: name of the labels (N,) in `.npz` files, integers ≥ 0; null to leave them out. Sets without
            labels have no classes.
        num_classes: number of classes; null: the largest label and one.
        image_size: height and width in pixels, or [height, width]: images are resized bilinearly to cover it, and
            centre-cropped; null leaves them as they are.
        flip: mirror training images left to right with probability ½.
        val_fraction: share of the images held out for validation, in [0, 1); the same ones in every run.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, a file is absent or does not hold what it should.
    """

    modality = Images()

    def __init__(
        self,
        paths: list[str] | str,
        images_key: str = "images",
        labels_key: str | None = "labels",
        num_classes: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        flip: bool = False,
        val_fraction: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require(0 <= val_fraction < 1, "val_fraction", val_fraction, "in [0, 1)")
        require(num_classes is None or num_classes >= 1, "num_classes", num_classes, "at least 1, or null")
        self.paths = [paths] if isinstance(paths, str) else list(paths)
        self.images_key, self.labels_key, self.flip, self.val_fraction = images_key, labels_key, flip, val_fraction
        self.size = None if image_size is None else size_pair(image_size)
        self._given_classes = num_classes

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(C, H, W); loads the data."""
        return self._all.shape

    @property
    def splits(self) -> tuple[str, ...]:
        """Train, and val unless `val_fraction` is 0."""
        return ("train", "val") if self.val_fraction else ("train",)

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None without labels; loads the data.

        Raises:
            UserError: a label is negative or exceeds the number of classes given.
        """
        y = self._all.tensors.get("y")
        if y is None:
            require(self._given_classes is None, "num_classes", self._given_classes, "null, as there are no labels")
            return None
        low, high = int(y.min()), int(y.max())
        require(low >= 0, "labels_key", self.labels_key, f"the name of labels ≥ 0, but the smallest is {low}")
        right = f"at least {high + 1}, as the largest label is {high}"
        require(self._given_classes is None or self._given_classes > high, "num_classes", self._given_classes, right)
        return self._given_classes or high + 1

    @cached_property
    def _all(self) -> TensorRows:
        files = [self._read(path) for path in self._files()]
        (x, y), first = files[0], self._files()[0]
        for path, (images, labels) in zip(self._files(), files, strict=True):
            if images.shape[1:] != x.shape[1:]:
                shapes = f"{tuple(images.shape[1:])} and {tuple(x.shape[1:])}"
                raise self._wrong(path, f"holds images of another shape (C, H, W) than {first}: {shapes}")
            if (labels is None) != (y is None):
                raise self._wrong(path, f"and {first} differ in whether they hold labels")
        if len(files) > 1:
            x = torch.cat([images for images, _ in files])
            y = None if y is None else torch.cat([labels for _, labels in files if labels is not None])
        return TensorRows(x if self.size is None else cover(x, self.size), y)

    def load_split(self, name: str) -> Rows:
        """The images of the split, from all files together."""
        _ = self.num_classes  # checks the labels
        if not self.val_fraction:
            return self._all
        train, val = holdout(len(self._all), self.val_fraction)
        return self._all.subset({"train": train, "val": val}[name])

    def _files(self) -> list[str]:
        found = []
        for pattern in self.paths:
            matches = [pattern] if Path(pattern).is_file() else sorted(glob(pattern, recursive=True))
            if not matches:
                raise self._wrong(pattern, "matches no file; give .npy or .npz files")
            found += matches
        if not found:
            raise UserError("data.init_args.paths is empty; give at least one .npy or .npz file")
        return found

    def _read(self, path: str) -> tuple[Tensor, Tensor | None]:
        """Images (N, C, H, W) and labels (N,) of one file."""
        try:
            # no pickles: a data file must not run code
            content = np.load(path, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return self._images(path, content), None
            with content:
                arrays = {key: content[key] for key in (self.images_key, self.labels_key) if key in content.files}
                names = content.files
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            raise self._wrong(path, f"is no readable .npy or .npz file ({error})") from error
        if self.images_key not in arrays:
            near = nearest(self.images_key, names)
            raise self._wrong(path, f"has no array {self.images_key!r}{near}, only {', '.join(names)}; set images_key")
        images = self._images(path, arrays[self.images_key])
        if self.labels_key is None or self.labels_key not in arrays:
            return images, None
        labels = arrays[self.labels_key]
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            told = f"{labels.dtype} of shape {labels.shape} for {len(images)} images"
            raise self._wrong(path, f"has labels {self.labels_key!r} that are not one integer an image: {told}")
        return images, torch.from_numpy(labels.astype(np.int64))

    def _images(self, path: str, array: np.ndarray) -> Tensor:
        if array.dtype != np.uint8 or array.ndim not in (3, 4) or not array.size:
            told = f"{array.dtype} of shape {array.shape}"
            raise self._wrong(path, f"holds {told}, not uint8 images (N, H, W, C), (N, H, W) or (N, C, H, W)")
        if array.ndim == 3:
            array = array[:, None]
        elif array.shape[-1] in (1, 3, 4):
            array = array.transpose(0, 3, 1, 2)
        # one copy at most, in the order in which rows are gathered
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))

    def _wrong(self, path: str, told: str) -> UserError:
        return UserError(f"data.init_args.paths: {path} {told}")
