"""A folder of images: anyone's own data."""

from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from lightning_gen.data.attributes import AttributeTable
from lightning_gen.data.base import DataModule, holdout, require
from lightning_gen.data.image_files import FileRows, find_images
from lightning_gen.data.modality import Images
from lightning_gen.data.resize import size_pair
from lightning_gen.data.rows import Rows, TensorRows
from lightning_gen.errors import UserError

IN_MEMORY_BYTES = 2**30
"""Decoded sets below this size are kept in memory unless told otherwise."""


class ImageFolder(DataModule):
    """The images below a folder, of any size and kind (see `decode`), however deeply nested.

    Each is turned upright, resized to cover `image_size` and centre-cropped. At set-up every file is decoded once, so
    that a damaged one is found before training; that pass also fills the memory when the set is kept there. Otherwise
    files are decoded again whenever they are used, by `num_workers` processes.

    Args:
        path: the folder.
        image_size: height and width in pixels, or [height, width].
        channels: 3 for colour, 1 for grey; images are converted.
        labels: use the names of the sub-folders directly below `path`, sorted, as classes.
        flip: mirror training images left to right with probability ½.
        val_fraction: share of the images held out for validation, in [0, 1); the same ones in every run.
        on_corrupt: what to do with files that cannot be decoded: "stop", or "skip" them with a warning.
        in_memory: keep the decoded images in memory; null: when they take less than 1 GiB.
        attributes: a table of what each image shows, a CSV file or CelebA's `list_attr_celeba.txt`, see
            `AttributeTable`; then `y` is (B, A) in {0, 1}, and there are no classes.
        attribute_choice: names of the attributes to use, in this order; null for all of the table.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, the folder is absent, unreadable, without images, or holds
            damaged ones, or the table does not fit it.
    """

    modality = Images()

    def __init__(
        self,
        path: str,
        image_size: int | tuple[int, int],
        channels: int = 3,
        labels: bool = False,
        flip: bool = False,
        val_fraction: float = 0.0,
        on_corrupt: Literal["stop", "skip"] = "stop",
        in_memory: bool | None = None,
        attributes: str | None = None,
        attribute_choice: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require(channels in (1, 3), "channels", channels, "1 or 3")
        require(0 <= val_fraction < 1, "val_fraction", val_fraction, "in [0, 1)")
        require(on_corrupt in ("stop", "skip"), "on_corrupt", on_corrupt, "'stop' or 'skip'")
        require(attributes is None or not labels, "labels", labels, "false where attributes are given")
        right = "null where no attributes are given"
        require(attributes is not None or attribute_choice is None, "attribute_choice", attribute_choice, right)
        self.path, self.size, self.channels, self.labels = path, size_pair(image_size), channels, labels
        self.flip, self.val_fraction, self.on_corrupt, self.in_memory = flip, val_fraction, on_corrupt, in_memory
        self.attributes, self.attribute_choice = attributes, attribute_choice

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(channels, height, width)."""
        return (self.channels, *self.size)

    @property
    def splits(self) -> tuple[str, ...]:
        """Train, and val unless `val_fraction` is 0."""
        return ("train", "val") if self.val_fraction else ("train",)

    @property
    def num_classes(self) -> int | None:
        """Number of sub-folders with images, if `labels`; of attributes, if there are any."""
        names = self.class_names if self.attributes is None else self.attribute_names
        return None if names is None else len(names)

    @property
    def class_names(self) -> list[str] | None:
        """Names of the sub-folders with images, sorted, if `labels`.

        Raises:
            UserError: an image lies outside any sub-folder.
        """
        return self._names if self.labels else None

    @property
    def attribute_names(self) -> list[str] | None:
        """Names of the attributes in use, if there are any."""
        return None if self.attributes is None else self._table.names

    @cached_property
    def _table(self) -> AttributeTable:
        assert self.attributes is not None
        return AttributeTable(self.attributes, self.attribute_choice)

    @cached_property
    def _names(self) -> list[str]:
        loose = next((file for file in self._files if "/" not in file), None)
        if loose is not None:
            raise UserError(
                f"data.init_args.labels is True, but {loose} lies directly in {self.path!r}; "
                "put each image in the sub-folder of its class, or set labels to false"
            )
        return sorted({file.split("/", 1)[0] for file in self._files})

    @cached_property
    def _files(self) -> list[str]:
        return find_images(self.path)

    @cached_property
    def _parts(self) -> dict[str, Rows]:
        """Both splits, from one pass over the files."""
        rows = FileRows(self.path, self._files, self.size, self.channels, self._y(self._files))
        keep = self.in_memory
        if keep is None:
            keep = len(rows) * self.channels * self.size[0] * self.size[1] < IN_MEMORY_BYTES
        x, reasons = rows.try_all(keep)
        self._judge(reasons)
        good = torch.tensor([i for i in range(len(rows)) if i not in reasons])
        return {
            name: self._part(good[part], x)
            for name, part in zip(("train", "val"), holdout(len(good), self.val_fraction), strict=True)
        }

    def load_split(self, name: str) -> Rows:
        """The images of the split, decoded or to be decoded when needed."""
        return self._parts[name]

    def _part(self, index: Tensor, x: Tensor | None) -> Rows:
        files = [self._files[i] for i in index.tolist()]
        y = self._y(files)
        if x is None:
            return FileRows(self.path, files, self.size, self.channels, y)
        return TensorRows(x if len(index) == len(x) else x[index], y)

    def _y(self, files: list[str]) -> Tensor | None:
        """Classes (N,), attributes (N, A), or nothing."""
        if self.attributes is not None:
            return self._table.of(files, self.path)
        if self.class_names is None:
            return None
        number = {name: i for i, name in enumerate(self.class_names)}
        return torch.tensor([number[file.split("/", 1)[0]] for file in files])

    def _judge(self, reasons: dict[int, str]) -> None:
        """Say which files cannot be decoded.

        Raises:
            UserError: there are some and `on_corrupt` is "stop", or there are no others.
        """
        if not reasons:
            return
        named = ", ".join(f"{self._files[i]} ({reason})" for i, reason in list(reasons.items())[:5])
        more = f" and {len(reasons) - 5} more" if len(reasons) > 5 else ""
        told = f"{len(reasons)} of {len(self._files)} images in {self.path!r} cannot be decoded: {named}{more}"
        if len(reasons) == len(self._files):
            raise UserError(f"data.init_args.path: {told}; give a folder of intact images")
        if self.on_corrupt == "stop":
            raise UserError(f"data.init_args.path: {told}; mend or delete them, or set on_corrupt to 'skip'")
        rank_zero_warn(f"{told}; they are left out")
