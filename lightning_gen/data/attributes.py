"""Tables that say which attributes each image has."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import UserError, nearest

KEY = "data.init_args.attributes"


@final
class AttributeTable:
    """Attributes of images by file name, read from a text file.

    Either a CSV file, whose first line names the columns (the file first, then the attributes), or the format of
    CelebA's `list_attr_celeba.txt`: the number of rows, the attributes' names, and rows, all separated by blanks.
    (Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015.) An image's file is its path in the folder of
    the images, with "/"; or its name alone where no two images share it.

    Args:
        path: the file.
        choice: the attributes to keep, in this order; None for all in the file's order.

    Raises:
        UserError: the file is absent, has another form, holds other values than 0 and 1 or -1 and 1, or lacks an
            attribute of `choice`.
    """

    def __init__(self, path: str, choice: Sequence[str] | None = None) -> None:
        self.path = path
        header, rows = self._lines()
        self.names = list(header if choice is None else choice)
        self._check_names(header)
        for row in rows:
            if len(row) != len(header) + 1:
                raise self._wrong(f"has {len(row) - 1} values for {row[0]!r}, not a file and {len(header)} attributes")
        self._row = {row[0]: i for i, row in enumerate(rows)}
        if len(self._row) < len(rows):
            twice = Counter(row[0] for row in rows).most_common(1)[0][0]
            raise self._wrong(f"has {twice!r} more than once")
        self._values = self._numbers(rows, [header.index(name) + 1 for name in self.names])

    def of(self, files: Sequence[str], folder: str) -> Tensor:
        """Attributes of some images.

        Args:
            files: paths in `folder`, with "/".
            folder: named in messages.

        Returns:
            (N, A) float32 in {0, 1}.

        Raises:
            UserError: there is no row for an image.
        """
        names = {file: file.rsplit("/", 1)[-1] for file in files}
        alone = {name for name, count in Counter(names.values()).items() if count == 1}
        found = [self._row.get(f, self._row.get(names[f]) if names[f] in alone else None) for f in files]
        if missing := [file for file, row in zip(files, found, strict=True) if row is None]:
            raise self._wrong(
                f"has no row for {len(missing)} of the {len(files)} images in {folder!r}, such as {missing[0]}"
            )
        return torch.from_numpy(self._values[np.asarray(found, dtype=np.int64)]).float()

    def _lines(self) -> tuple[list[str], list[list[str]]]:
        """Names of the attributes, and rows that start with a file."""
        try:
            with Path(self.path).open(newline="", encoding="utf-8-sig") as file:
                first = file.readline().strip()
                lines: Iterable[list[str]]
                lines = map(str.split, file) if first.isdecimal() else csv.reader(file, skipinitialspace=True)
                rows = [[value.strip() for value in row] for row in lines if row]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise self._wrong(f"cannot be read ({error})") from error
        if first.isdecimal():  # CelebA's names have no column for the file
            header = rows.pop(0) if rows else []
        else:
            header = [name.strip() for name in next(csv.reader([first], skipinitialspace=True))[1:]]
        if not header or not rows:
            raise self._wrong("names no attributes or has no rows: it needs a line of names, and one for each image")
        return header, rows

    def _check_names(self, header: list[str]) -> None:
        if twice := [name for name, count in Counter(header).items() if count > 1]:
            raise self._wrong(f"names the attribute {twice[0]!r} more than once")
        told = f"data.init_args.attribute_choice is {self.names}"
        if not self.names or len(set(self.names)) < len(self.names):
            raise UserError(f"{told}: it must name at least one attribute, and each once, or be null")
        if unknown := [name for name in self.names if name not in header]:
            raise UserError(
                f"{told}, but {self.path} has no attribute {unknown[0]!r}{nearest(unknown[0], header)}: "
                f"it has {', '.join(header)}"
            )

    def _numbers(self, rows: list[list[str]], columns: list[int]) -> np.ndarray:
        """(N, A) uint8 in {0, 1}."""
        text = np.array([[row[column] for column in columns] for row in rows])
        if bad := sorted(set(np.unique(text).tolist()) - {"0", "1", "-1"}):
            raise self._wrong(f"holds the value {bad[0]!r}: attributes must be 0 or 1, or -1 or 1")
        if {"0", "-1"} <= set(np.unique(text).tolist()):
            raise self._wrong("holds both 0 and -1: attributes must be 0 or 1 everywhere, or -1 or 1 everywhere")
        return (text == "1").astype(np.uint8)

    def _wrong(self, told: str) -> UserError:
        return UserError(f"{KEY}: {self.path} {told}")
