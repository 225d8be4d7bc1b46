"""Images read from the disk whenever they are asked for, by threads that run ahead; the memory taken is constant."""

import hashlib
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, final
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import torch
from torch import Tensor

from lightning_gen.data.image_files import decode_whole
from lightning_gen.data.image_places import Place, damage
from lightning_gen.data.rows import Batch, Rows

AHEAD = 2
"""Batches that are prepared while one is used."""
PART = 16
"""Images that a thread prepares at a time."""


class DiskRows(Rows):
    """Images on the disk.

    Args:
        shape: (channels, height, width) of each.
        y: (N,) int64 classes, if any.
    """

    def __init__(self, shape: tuple[int, int, int], y: Tensor | None) -> None:
        self._shape, self.y = shape, y

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self._shape

    @abstractmethod
    def fill(self, target: np.ndarray, index: np.ndarray) -> None:
        """Write the images at `index` (B,) to `target` (B, channels, height, width) uint8; called in threads."""

    def __getitem__(self, index: Any) -> Batch:
        (batch,) = self.stream([torch.as_tensor(index)])
        return batch

    def stream(self, plan: Sequence[Tensor], num_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """One batch for each index tensor of `plan`, in order.

        Args:
            plan: int64 index tensors, each (B,).
            num_workers: threads that prepare batches ahead, ≥ 0: decoders run without Python's lock, and threads
                start at once and hand over without a copy.
            pin: see `Rows.stream`.
        """
        if num_workers == 0:
            for index in plan:
                x = self._empty(index, pin)
                self.fill(x.numpy(), index.numpy())
                yield self._batch(x, index)
            return
        waiting: deque[tuple[Tensor, Tensor, list[Future]]] = deque()
        pool = ThreadPoolExecutor(num_workers)
        try:
            for index in plan:
                x = self._empty(index, pin)
                parts = zip(x.split(PART), index.split(PART), strict=True)
                waiting.append((x, index, [pool.submit(self.fill, a.numpy(), b.numpy()) for a, b in parts]))
                if len(waiting) > AHEAD:
                    yield self._finished(*waiting.popleft())
            while waiting:
                yield self._finished(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _empty(self, index: Tensor, pin: bool) -> Tensor:
        return torch.empty(len(index), *self.shape, dtype=torch.uint8, pin_memory=pin)

    def _finished(self, x: Tensor, index: Tensor, jobs: list[Future]) -> Batch:
        for job in jobs:
            job.result()
        return self._batch(x, index)

    def _batch(self, x: Tensor, index: Tensor) -> Batch:
        return {"x": x} if self.y is None else {"x": x, "y": self.y[index]}


class _Undecodable(Exception):
    """An image cannot be decoded."""


@final
class EncodedRows(DiskRows):
    """Images of a folder or an archive, decoded at their own size.

    Args:
        place: where they are.
        shape: (channels, height, width) of each.
        y: (N,) int64 classes, if any.
    """

    def __init__(self, place: Place, shape: tuple[int, int, int], y: Tensor | None = None) -> None:
        super().__init__(shape, y)
        self.place = place

    def __len__(self) -> int:
        return len(self.place.names)

    def fill(self, target: np.ndarray, index: np.ndarray) -> None:
        """Decode."""
        for row, i in zip(target, index, strict=True):
            try:
                row[:] = decode_whole(self.place.source(int(i)), len(row))
            except Exception as error:  # PIL's readers raise almost anything for damaged files
                raise _Undecodable from error

    def stream(self, plan: Sequence[Tensor], num_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """One batch for each index tensor of `plan`, in order, see `DiskRows.stream`.

        Raises:
            UserError: an image cannot be decoded, or has another size; all such images are counted.
        """
        try:
            yield from super().stream(plan, num_workers, pin)
        except _Undecodable as error:
            raise damage(self.place, self.shape[1:]) from error

    def fingerprint(self, limit: int | None = None) -> str:
        """SHA-256 over what the place says of each image, its class, and what is made of it."""
        digest = hashlib.sha256(f"{self.shape} whole".encode())
        labels = [None] * len(self) if self.y is None else self.y.tolist()
        for i, label in enumerate(labels[:limit]):
            digest.update(f"{self.place.stamp(i)} {label}\0".encode())
        return digest.hexdigest()


@final
class ArrayRows(DiskRows):
    """Images of a NumPy file, which is mapped into memory unless it is compressed.

    Args:
        path: a `.npy` or `.npz` file.
        key: name of the array in an `.npz` file.
        array: what `open_array` gives of these: uint8 (N, H, W, C), (N, C, H, W) or (N, H, W); C is 1 or 3.
        limit: only the first so many images; None for all.
        y: (N,) int64 classes, if any.
    """

    def __init__(
        self, path: str, key: str | None, array: np.ndarray, limit: int | None = None, y: Tensor | None = None
    ) -> None:
        self._open = channels_first(array)
        super().__init__(tuple(self._open.shape[1:]), None if y is None else y[:limit])
        self.path, self.key, self.count = path, key, len(self._open[:limit])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    def __len__(self) -> int:
        return self.count

    @property
    def _array(self) -> np.ndarray:
        """(N, C, H, W)."""
        if "_open" not in self.__dict__:
            self._open = channels_first(open_array(self.path, self.key))
        return self._open

    def fill(self, target: np.ndarray, index: np.ndarray) -> None:
        """Gather."""
        target[:] = self._array[index]

    def fingerprint(self, limit: int | None = None) -> str:
        """SHA-256 over shape, bytes and classes."""
        count = len(self) if limit is None else min(limit, len(self))
        digest = hashlib.sha256(f"{count} {self.shape}".encode())
        for rows in np.array_split(self._array[:count], -(-count // 256)):
            digest.update(np.ascontiguousarray(rows).data)
        digest.update(b"" if self.y is None else self.y[:count].numpy().tobytes())
        return digest.hexdigest()


def channels_first(array: np.ndarray) -> np.ndarray:
    """(N, C, H, W) of (N, H, W, C), known by a last side of 1 or 3, of (N, C, H, W), or of (N, H, W)."""
    if array.ndim == 3:
        return array[:, None]
    return array.transpose(0, 3, 1, 2) if array.shape[-1] in (1, 3) else array


def open_array(path: str | Path, key: str | None) -> np.ndarray:
    """An array of a `.npy` (`key` is None) or `.npz` file, mapped where that is possible, read-only.

    Raises:
        OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error: the file cannot be read.
    """
    if key is None:
        return np.lib.format.open_memmap(path, mode="r")
    with ZipFile(path) as archive:
        member = archive.getinfo(f"{key}.npy")
        if member.compress_type != ZIP_STORED:
            with archive.open(member) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            header = stream.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    with open(path, "rb") as file:
        file.seek(member.header_offset + 26)  # of the name's and the extra field's lengths, 2 bytes each
        lengths = np.frombuffer(file.read(4), dtype="<u2")
        start = file.tell() + int(lengths.sum()) + header
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
