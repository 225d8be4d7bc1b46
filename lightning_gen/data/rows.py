"""Random access to the samples of one split, a whole batch at a time, in stored form."""

import hashlib
import multiprocessing
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor

Batch = dict[str, Tensor]
"""`x` (B, …) in stored form, `y` (B,) int64 classes or (B, A) float32 attributes if there are any, and what a loader
adds."""


class Rows(ABC):
    """The samples of one split."""

    y: Tensor | None = None
    """(N,) int64 classes or (N, A) float32 attributes of all samples, if any."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W) or (D,)."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Batch:
        """The samples at `index`, an int64 tensor or array (B,) of positions in [0, len)."""

    @abstractmethod
    def stream(self, plan: Sequence[Tensor], num_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """One batch for each index tensor of `plan`, in order.

        Args:
            plan: int64 index tensors, each (B,).
            num_workers: processes that prepare batches ahead, ≥ 0; not used by what is in memory already.
            pin: put batches in page-locked memory, from which copies to a GPU are asynchronous.
        """

    @abstractmethod
    def fingerprint(self, limit: int | None = None) -> str:
        """SHA-256 (hex) that names the content of the first `limit` samples (None: of all)."""


@final
class TensorRows(Rows):
    """Samples in memory.

    Args:
        x: (N, …) samples in stored form.
        y: (N,) integer classes or (N, A) floating-point attributes, if any.
    """

    def __init__(self, x: Tensor, y: Tensor | None = None) -> None:
        if y is not None and len(y) != len(x):
            raise ValueError(f"{len(x)} samples but {len(y)} labels")
        self.y = None if y is None else y.to(torch.float32 if y.is_floating_point() else torch.int64)
        self.tensors: Batch = {"x": x.contiguous()} if self.y is None else {"x": x.contiguous(), "y": self.y}

    def __len__(self) -> int:
        return len(self.tensors["x"])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.tensors["x"].shape[1:])

    def __getitem__(self, index: Any) -> Batch:
        return self._gather(torch.as_tensor(index), pin=False)

    def stream(self, plan: Sequence[Tensor], num_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """One gather a batch, in this process: a copy of rows is faster than sending them between processes."""
        return (self._gather(index, pin) for index in plan)

    def fingerprint(self, limit: int | None = None) -> str:
        """SHA-256 over names, types, shapes and bytes."""
        digest = hashlib.sha256()
        for name, tensor in self.tensors.items():
            rows = tensor[:limit]
            digest.update(f"{name} {rows.dtype} {tuple(rows.shape)};".encode())
            digest.update(rows.numpy().data)
        return digest.hexdigest()

    def subset(self, index: Tensor) -> "TensorRows":
        """The samples at `index` (M,), copied."""
        return TensorRows(self.tensors["x"][index], None if self.y is None else self.y[index])

    def _gather(self, index: Tensor, pin: bool) -> Batch:
        # straight into its (page-locked) place: one copy, and no loop over samples
        return {
            name: torch.index_select(
                tensor, 0, index, out=torch.empty((len(index), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=pin)
            )
            for name, tensor in self.tensors.items()
        }


def stream_in_workers(rows: Rows, plan: Sequence[Tensor], num_workers: int, pin: bool) -> Iterator[Batch]:
    """One batch for each index tensor of `plan`, each made by `rows[index]` in one of `num_workers` processes."""
    from torch.utils.data import DataLoader

    loader: DataLoader[Batch] = DataLoader(
        rows,  # type: ignore[arg-type]
        sampler=[index.numpy() for index in plan],  # arrays: a tensor would travel through a file descriptor each
        batch_size=None,  # each "sample" is a batch already
        num_workers=num_workers,
        multiprocessing_context=_context() if num_workers else None,
        pin_memory=pin,
        # its own generator: the default draws from torch's global one, and a resumed run would then draw other noise
        generator=torch.Generator().manual_seed(0),
    )
    yield from loader


def _context() -> Any:
    """How worker processes are started.

    Not by fork: torch, BLAS and CUDA have threads by now, whose locks a forked child inherits held and never sees
    released. A fork server is one fresh process without threads; it imports this package once, and forks quickly after.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lightning_gen.data"])
    return context
