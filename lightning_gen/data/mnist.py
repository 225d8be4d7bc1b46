"""MNIST and the sets that share its file format."""

import gzip
import zlib
from abc import ABC
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.data.base import DataModule
from lightning_gen.data.modality import Images
from lightning_gen.data.resize import cover, size_pair
from lightning_gen.data.rows import Rows, TensorRows
from lightning_gen.errors import UserError

_PREFIX = {"train": "train", "val": "t10k", "test": "t10k"}


class IdxImages(DataModule, ABC):
    """28×28 grey images of 10 classes in the idx files of torchvision's layout, `root/<name>/raw`; in memory.

    60,000 training and 10,000 test images; there is no split for validation, so `val` is the test split too. Files may
    be packed (`.gz`) or not. Images are 28×28 for `image_size` 28, padded with black to 32×32 for 32 (the default,
    which networks can halve five times), and resized bilinearly for other sizes.

    Args:
        root: folder that holds the folder of the set.
        download: fetch the files if they are absent.
        image_size: height and width in pixels, ≥ 1.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, files are absent, cannot be fetched, or are damaged.
    """

    modality = Images()
    name: str
    """Name of the set, of its folder and of its class in torchvision."""

    def __init__(self, root: str = "data", download: bool = True, image_size: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.download, self.size = root, download, size_pair(image_size)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(1, image_size, image_size)."""
        return (1, *self.size)

    @property
    def splits(self) -> tuple[str, ...]:
        """All; val is test."""
        return ("train", "val", "test")

    @property
    def num_classes(self) -> int:
        """10."""
        return 10

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.root) / self.name / "raw"

    def prepare_data(self) -> None:
        """Fetch the files if they are absent; Lightning calls this on one process of each machine.

        Raises:
            UserError: they are absent and may not or cannot be fetched.
        """
        absent = [file for file in _files() if _find(self.folder / file) is None]
        if not absent:
            return
        if not self.download:
            raise self._absent(absent[0], "set data.init_args.download to true or put the files there")
        from torchvision import datasets

        try:
            getattr(datasets, self.name)(self.root, download=True)
        except (OSError, RuntimeError) as error:
            reason = f"the download failed ({str(error).strip().splitlines()[-1]}); put the files there by hand"
            raise self._absent(absent[0], reason) from error

    def load_split(self, name: str) -> Rows:
        """Training and test images as uint8 (N, 1, H, W), with classes."""
        if name == "test" and "val" in self._splits:
            return self._splits["val"]
        x = self._read(f"{_PREFIX[name]}-images-idx3-ubyte")[:, None]
        y = self._read(f"{_PREFIX[name]}-labels-idx1-ubyte")
        if self.size == (32, 32):
            x = torch.nn.functional.pad(x, (2, 2, 2, 2))
        return TensorRows(cover(x, self.size), y)

    def _read(self, file: str) -> Tensor:
        path = _find(self.folder / file)
        if path is None:
            raise self._absent(file, "put the files of the set there, or set data.init_args.download to true")
        try:
            return read_idx(path)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}); delete it and fetch it again") from error

    def _absent(self, file: str, reason: str) -> UserError:
        return UserError(f"data.init_args.root is {self.root!r}, but {self.folder} has no {file}: {reason}")


class MNIST(IdxImages):
    """Handwritten digits (Y. LeCun, C. Cortes, C. Burges, 1998). Arguments: see `IdxImages`."""

    name = "MNIST"

    @property
    def class_names(self) -> list[str]:
        """The digits."""
        return [str(digit) for digit in range(10)]


class FashionMNIST(IdxImages):
    """Articles of clothing (Xiao et al., arXiv:1708.07747). Arguments: see `IdxImages`."""

    name = "FashionMNIST"

    @property
    def class_names(self) -> list[str]:
        """The articles."""
        names = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
        return names.split(",")


def read_idx(path: Path) -> Tensor:
    """An idx file of bytes, packed or not, as a uint8 tensor of the shape that its header tells.

    The header is two zero bytes, a type (8 for bytes), the number of dimensions, and each as a big-endian int32.

    Raises:
        ValueError: it is no such file, or is cut short.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        content = file.read()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("this is no idx file of bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4) if len(content) >= 4 + 4 * dimensions else np.zeros(0)
    if len(content) - 4 - 4 * dimensions != int(np.prod(shape, dtype=np.int64)) or not len(shape):
        raise ValueError(f"its size, {len(content)} bytes, does not fit its header")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy())


def _files() -> list[str]:
    return [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def _find(path: Path) -> Path | None:
    packed = path.with_name(path.name + ".gz")
    return path if path.is_file() else packed if packed.is_file() else None
