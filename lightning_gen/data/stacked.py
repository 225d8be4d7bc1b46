"""Images made of images: as many modes as one wants to count."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, final

import torch
from torch import Tensor

from lightning_gen.data.base import SPLIT_SEED, DataModule, require
from lightning_gen.data.rows import Batch, Rows
from lightning_gen.errors import UserError


@final
class StackedRows(Rows):
    """Samples each made of several grey images, put together when they are asked for.

    Args:
        rows: the grey images, (1, H, W) each.
        parts: (N, C) int64 positions in `rows`, of the image in each channel.
        y: (N,) int64 classes.
    """

    y: Tensor

    def __init__(self, rows: Rows, parts: Tensor, y: Tensor) -> None:
        self.rows, self.parts, self.y = rows, parts, y

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return (self.parts.shape[1], *self.rows.shape[1:])

    def __getitem__(self, index: Any) -> Batch:
        (batch,) = self.stream([torch.as_tensor(index)])
        return batch

    def stream(self, plan: Sequence[Tensor], num_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
        """One batch for each index tensor of `plan`, from what the source streams."""
        images = self.rows.stream([self.parts[index].flatten() for index in plan], num_workers, pin)
        for index, batch in zip(plan, images, strict=True):
            yield {"x": batch["x"].view(len(index), *self.shape), "y": self.y[index]}

    def fingerprint(self, limit: int | None = None) -> str:
        """SHA-256 over the source, which of its images are used, and the classes."""
        digest = hashlib.sha256(f"{self.rows.fingerprint()} {self.shape}".encode())
        for tensor in (self.parts, self.y):
            digest.update(tensor[:limit].contiguous().numpy().data)
        return digest.hexdigest()


class Stacked(DataModule):
    """Grey images of a source drawn independently into the channels of one image: K classes make K^channels modes.

    Of MNIST in 3 channels it is stacked MNIST with its 1,000 modes (Metz et al., arXiv:1611.02163; Srivastava et al.,
    arXiv:1705.07761, with 128,000 training images). The class is the number that the classes form as digits to the base
    K, the first channel first: a 4, a 0 and a 7 make class 407. Images are drawn by a fixed seed, each split from the
    source's split of that name, and are put together when they are used, so that the set takes no memory of its own.

    Args:
        data: the source, of grey images with classes; of its own batch size, seed and so on nothing is used.
        channels: images in one, in 1…6.
        num_samples: images to train on, ≥ 1.
        num_val: images in each of the splits val and test, where the source has them, ≥ 1.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, the source is not grey or has no classes.
    """

    def __init__(
        self, data: DataModule, channels: int = 3, num_samples: int = 128_000, num_val: int = 26_000, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        require(1 <= channels <= 6, "channels", channels, "from 1 to 6")
        require(num_samples >= 1, "num_samples", num_samples, "at least 1")
        require(num_val >= 1, "num_val", num_val, "at least 1")
        self.data, self.channels, self.num_samples, self.num_val = data, channels, num_samples, num_val
        self.modality = data.modality

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """(channels, H, W)."""
        return (self.channels, *self.data.sample_shape[1:])

    @property
    def splits(self) -> tuple[str, ...]:
        """The source's."""
        return self.data.splits

    @property
    def num_classes(self) -> int | None:
        """K^channels, or None where the source has no classes."""
        count = self.data.num_classes
        return None if count is None else count**self.channels

    @property
    def class_names(self) -> list[str] | None:
        """Such as "4-0-7", where the source's are known."""
        names = self.data.class_names
        return None if names is None else ["-".join(parts) for parts in product(names, repeat=self.channels)]

    def prepare_data(self) -> None:
        """Let the source fetch what it needs."""
        self.data.prepare_data()

    def load_split(self, name: str) -> Rows:
        """Which images make up each sample; no image is copied.

        Raises:
            UserError: the source is not grey or has no classes.
        """
        rows, count, source = self.data.split(name), self.data.num_classes, type(self.data).__name__
        if len(rows.shape) != 3 or rows.shape[0] != 1:
            raise UserError(f"data.init_args.data is {source}, with samples of shape {rows.shape}: use grey images")
        if rows.y is None or rows.y.ndim != 1 or count is None:
            raise UserError(f"data.init_args.data is {source}, which has no classes: use data with one class a sample")
        number = self.num_samples if name == "train" else self.num_val
        generator = torch.Generator().manual_seed(SPLIT_SEED + ("train", "val", "test").index(name))
        parts = torch.randint(len(rows), (number, self.channels), generator=generator)
        place = count ** torch.arange(self.channels - 1, -1, -1)
        return StackedRows(rows, parts, (rows.y[parts] * place).sum(dim=1))
