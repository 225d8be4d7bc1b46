"""Images that anyone made, as they are: a folder, a zip archive, or a NumPy file."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
from lightning.fabric.utilities.data import suggested_max_num_workers
from torch import Tensor

from lightning_gen.data.disk_rows import ArrayRows, DiskRows, EncodedRows, channels_first, open_array
from lightning_gen.data.image_places import Archive, Folder, Place, survey
from lightning_gen.data.loader import EvalLoader
from lightning_gen.data.rows import Batch
from lightning_gen.errors import UserError

IMAGE_KEYS = ("images", "arr_0")
"""Names of the images in an `.npz` file; the second is what `np.savez` gives an array without a name."""
LABEL_KEYS = ("labels", "arr_1")
MOST_THREADS = 16
UNREADABLE = (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error)
"""What reading a NumPy file may raise."""


@final
class SampleFiles:
    """A set of images of one size, read as a stream; a source of rows for metrics, see `metrics.ReferenceData`.

    Args:
        images: what is read.
        class_names: names of the classes in the order of `y`, where folders gave them.
        notes: what the reader of a result should know about the images.
        num_workers: threads that decode ahead; None for what the CPU cores suggest, at most 16.
    """

    splits = ("all",)

    def __init__(
        self,
        images: DiskRows,
        class_names: list[str] | None = None,
        notes: Sequence[str] = (),
        num_workers: int | None = None,
    ) -> None:
        self.images, self.class_names, self.notes = images, class_names, list(notes)
        self.num_workers = num_workers
        self._fingerprints: dict[int | None, str] = {}

    def __len__(self) -> int:
        return len(self.images)

    def rows(
        self, split: str = "all", rank: int = 0, world_size: int = 1, batch_size: int = 64, limit: int | None = None
    ) -> Iterator[Batch]:
        """Batches of `x` (B, C, H, W) uint8, `y` if there are classes, and `index`, decoded ahead in threads.

        Process `rank` of `world_size` has every world_size-th image from the rank-th on; nothing is padded, and a
        process without images has no batches.

        Raises:
            UserError: images cannot be decoded.
        """
        threads = min(MOST_THREADS, suggested_max_num_workers(1)) if self.num_workers is None else self.num_workers
        pin = torch.cuda.is_available()
        loader = EvalLoader(self.images, batch_size, rank, world_size, threads, pin=pin, limit=limit)
        return (batch for batch in loader if len(batch["index"]))

    def fingerprint(self, split: str = "all", limit: int | None = None) -> str:
        """SHA-256 (hex) that names the content of the first `limit` images (None: of all)."""
        if limit not in self._fingerprints:
            self._fingerprints[limit] = self.images.fingerprint(limit)
        return self._fingerprints[limit]


def open_samples(
    path: str, key: str, limit: int | None = None, labels: bool = False, num_workers: int | None = None
) -> SampleFiles:
    """Find images and look at their headers; nothing is resized, here or later.

    A folder and a zip archive are read in sorted order of the paths, however deeply nested, each image as
    `image_files.decode_whole` says; grey images among coloured ones become RGB. A NumPy file holds uint8 images
    (N, H, W, C), (N, C, H, W) or (N, H, W); in an `.npz` file they are called `images` or `arr_0`, and their classes,
    if any, `labels` or `arr_1`.

    Args:
        path: a folder, a `.zip`, `.npz` or `.npy` file.
        key: the option that named it, for messages.
        limit: only the first so many images; None for all.
        labels: the folders directly below `path` are classes: their numbers where all are called by numbers, else
            their places in sorted order.
        num_workers: see `SampleFiles`.

    Raises:
        UserError: there is nothing of the kind at `path`, there are fewer images than `limit`, of different sizes,
            damaged, or outside any class.
    """
    file = Path(path)
    if not file.exists():
        raise UserError(f"{key} {path} does not exist: give a folder of images, or a .zip, .npz or .npy file")
    if file.suffix.lower() in (".npz", ".npy"):
        if labels:
            raise UserError(f"--labels takes folders for classes, and {key} {path} has none: leave it out")
        found = _from_array(path, key, limit)
    elif file.is_dir() or file.suffix.lower() == ".zip":
        found = _from_place((Folder if file.is_dir() else Archive)(path, key, limit), labels)
    else:
        raise UserError(
            f"{key} {path} is a file of another kind: give a folder of images, or a .zip, .npz or .npy file"
        )
    if limit is not None and len(found) < limit:
        raise UserError(f"{key} {path} holds {len(found)} images, but {limit} are to be used: use at most {len(found)}")
    found.num_workers = num_workers
    return found


def _from_place(place: Place, labels: bool) -> SampleFiles:
    seen = survey(place)
    total = len(place.names)
    notes = []
    if 0 < seen.num_grey < total:
        notes.append(f"{place.told}: {seen.num_grey} of {total} images are grey and are measured as RGB")
    names, y = _classes(place) if labels else (None, None)
    if place.left_out:
        notes.append(f"{place.told}: {place.left_out} shows samples of `lightning_gen sample` and is left out")
    return SampleFiles(EncodedRows(place, (1 if seen.num_grey == total else 3, *seen.size), y), names, notes)


def _classes(place: Place) -> tuple[list[str], Tensor]:
    loose = next((name for name in place.names if "/" not in name), None)
    if loose is not None:
        raise UserError(
            f"--labels takes folders for classes, but {loose} lies directly in {place.told}: put each image in the"
            " folder of its class, or leave --labels out"
        )
    folders = [str(name).split("/", 1)[0] for name in place.names]
    numeric = all(name.isdecimal() for name in set(folders))
    names = sorted(set(folders), key=lambda name: (int(name) if numeric else 0, name))  # 10 after 9
    numbers = {name: i for i, name in enumerate(names)}
    return names, torch.tensor([numbers[folder] for folder in folders])


def _from_array(path: str, key: str, limit: int | None) -> SampleFiles:
    told = f"{key} {path}"
    try:
        names = array_names(path)
        name = next((name for name in IMAGE_KEYS if name in names), None)
        if name is None and names:
            raise UserError(f"{told} has no array {' or '.join(IMAGE_KEYS)}, only {', '.join(names)}: name it so")
        array = open_array(path, name)
        label = next((label for label in LABEL_KEYS if label in names), None)
        labels = None if label is None else open_array(path, label)
    except UNREADABLE as error:
        raise UserError(f"{told} is no readable {Path(path).suffix} file ({error}): give an intact one") from error
    _check_images(told, array)
    y = None if labels is None else _labels(f"{told} has {label!r},", labels, len(array))
    return SampleFiles(ArrayRows(path, name, array, limit, y))


def array_names(path: str | Path) -> list[str]:
    """Names of the arrays of an `.npz` file; none of a `.npy` file.

    Raises:
        OSError, BadZipFile: the file cannot be read.
    """
    if Path(path).suffix.lower() == ".npy":
        return []
    with ZipFile(path) as content:  # not np.load, which leaves files open that it cannot read
        return [name.removesuffix(".npy") for name in content.namelist()]


def _check_images(told: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f":
        raise UserError(
            f"{told} holds {array.dtype} values, which may mean [-1, 1] or [0, 1]: save the images' bytes, such as"
            " ((x + 1) * 127.5).round().clip(0, 255).astype('uint8') of x in [-1, 1]"
        )
    good = array.dtype == np.uint8 and array.ndim in (3, 4) and array.size > 0
    if not good or channels_first(array[:1]).shape[1] not in (1, 3):
        raise UserError(
            f"{told} holds {array.dtype} of shape {array.shape}: give uint8 images (N, H, W, C), (N, C, H, W) or"
            " (N, H, W), of 1 or 3 channels"
        )


def _labels(told: str, labels: np.ndarray, count: int) -> Tensor:
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise UserError(
            f"{told} {labels.dtype} of shape {labels.shape}, which are no classes of {count} images: give one integer"
            " ≥ 0 an image, or leave it out"
        )
    return torch.from_numpy(labels.astype(np.int64))
