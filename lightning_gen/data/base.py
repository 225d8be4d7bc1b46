"""DataModule: the one contract between where data come from and everything that uses them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lightning_gen.data.labels import check_labels
from lightning_gen.data.loader import Companion, EvalLoader, SeedLoader, TrainLoader
from lightning_gen.data.modality import Modality
from lightning_gen.data.rows import Batch, Rows
from lightning_gen.errors import UserError, nearest

SPLIT_SEED = 0
"""Validation samples are drawn with this seed, whatever the run's: a score must not depend on the seed of a run."""


class DataModule(LightningDataModule, ABC):
    """A source of data. Samples are stored compactly (`Modality`) and become a model's floats on the device.

    A batch is a dict: `x` (B, …) samples; `y`, (B,) int64 classes or (B, A) float32 attributes in {0, 1}, if the data
    have any; and in evaluation `index` (B,) int64, the position in the split. Instead of samples a batch may hold
    `seeds` (B,) int64, from which to generate.

    Used without a Trainer, call `prepare_data()` once before the first `split()`.

    Subclasses are not marked `typing.final`, though they are: jsonargparse would refuse to rebuild them by class path.

    Args:
        batch_size: samples a process takes for one update of one network, ≥ 1.
        num_workers: processes that decode what is not in memory, ≥ 0; what is in memory needs none.
        seed: any integer; of the order of training samples, of mirroring, and of the seeds to generate from.
        num_predict: number of samples that `predict` generates over all processes, ≥ 1.

    Raises:
        UserError: an argument is out of its range.
    """

    modality: Modality
    """How samples are stored, shown and written."""

    flip: bool = False
    """Whether training samples are mirrored left to right with probability ½."""

    def __init__(self, batch_size: int = 64, num_workers: int = 0, seed: int = 0, num_predict: int = 64) -> None:
        super().__init__()
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        require(num_workers >= 0, "num_workers", num_workers, "0 or more")
        require(num_predict >= 1, "num_predict", num_predict, "at least 1")
        self.batch_size, self.num_workers, self.seed, self.num_predict = batch_size, num_workers, seed, num_predict
        self._splits: dict[str, Rows] = {}
        self._fingerprints: dict[tuple[str, int | None], str] = {}

    @property
    @abstractmethod
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (C, H, W) for images, (D,) for points."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """The splits there are, out of "train", "val" and "test"."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes or of attributes, or None where samples have no `y`."""
        return None

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes in the order of `y`, where they are known."""
        return None

    @property
    def attribute_names(self) -> list[str] | None:
        """Names of the columns of `y` where it holds attributes, None where it holds classes or is absent."""
        return None

    @abstractmethod
    def load_split(self, name: str) -> Rows:
        """Load the split `name`, one of `splits`."""

    def split(self, name: str) -> Rows:
        """The samples of a split, loaded when first asked for.

        Args:
            name: "train", "val" or "test".

        Raises:
            UserError: there is no such split, its data are absent or unfit, or a label is no class of `num_classes`.
        """
        if name not in self.splits:
            choices = ", ".join(self.splits)
            raise UserError(
                f"{type(self).__name__} has no split {name!r}{nearest(name, self.splits)}; it has {choices}"
            )
        if name not in self._splits:
            rows = self.load_split(name)
            check_labels(f"{type(self).__name__}: split {name!r}", rows.y, self.num_classes)
            self._splits[name] = rows
        return self._splits[name]

    def rows(
        self, split: str, rank: int = 0, world_size: int = 1, batch_size: int = 256, limit: int | None = None
    ) -> Iterator[Batch]:
        """The first `limit` samples of a split (None: all) in stored form with their `index`, for statistics.

        Process `rank` of `world_size` has every world_size-th sample from the rank-th on; nothing is padded, and a
        process without samples has no batches.
        """
        loader = EvalLoader(self.split(split), batch_size, rank, world_size, self.num_workers, limit=limit)
        return (batch for batch in loader if len(batch["index"]))

    def examples(self, num: int = 256) -> Batch:
        """The first `num` samples of the split "train", `x` in model form; for checks at set-up."""
        rows = self.split("train")
        return self.on_after_batch_transfer(rows[torch.arange(min(num, len(rows)))], 0)

    def fingerprint(self, split: str, limit: int | None = None) -> str:
        """SHA-256 (hex) that names the content of the first `limit` samples of a split (None: of all)."""
        if (split, limit) not in self._fingerprints:
            self._fingerprints[split, limit] = self.split(split).fingerprint(limit)
        return self._fingerprints[split, limit]

    def setup(self, stage: str) -> None:
        """Load what `stage` ("fit", "validate", "test" or "predict") needs, so that bad data end a run at its start."""
        for name in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            if name in self.splits:
                self.split(name)

    @property
    def rows_per_step(self) -> int:
        """Micro-batches that one training step consumes: the model's `batches_per_step`, or 1."""
        model = self.trainer.lightning_module if self.trainer is not None else None
        return getattr(model, "batches_per_step", 1)

    def train_dataloader(self) -> TrainLoader:
        """Shuffled batches of batch_size × rows_per_step samples a process; see `TrainLoader`.

        Raises:
            UserError: the training set is smaller than one step.
        """
        rows, world_size = self.training_rows, self._world_size
        step = self.batch_size * self.rows_per_step * world_size
        if len(rows) < step:
            parts = f"{self.batch_size} × {self.rows_per_step} batches a step × {world_size} processes"
            most = len(rows) * self.batch_size // step
            raise UserError(
                f"data.init_args.batch_size is {self.batch_size}, so a step needs {step} samples ({parts}), but the "
                f"training set has {len(rows)}; use {f'a batch_size of at most {most}' if most else 'more data'}"
            )
        return TrainLoader(
            rows,
            self.batch_size * self.rows_per_step,
            seed=self.seed,
            flip=self.flip,
            rank=self._rank,
            world_size=world_size,
            num_workers=self.num_workers,
            pin=self._pin,
            companion=self.companion,
            **self._progress(len(rows) // step),
        )

    @property
    def training_rows(self) -> Rows:
        """What training batches are made of: the split "train", unless they are drawn anew from other rows."""
        return self.split("train")

    @property
    def companion(self) -> Companion | None:
        """What training batches carry beside their samples, or in place of `y`; nothing by default."""
        return None

    def val_dataloader(self) -> EvalLoader | SeedLoader:
        """The validation split in order, or, where there is none, one batch of seeds a process."""
        return self._evaluation("val")

    def test_dataloader(self) -> EvalLoader | SeedLoader:
        """The test split in order, or, where there is none, one batch of seeds a process."""
        return self._evaluation("test")

    def predict_dataloader(self) -> SeedLoader:
        """Seeds of `num_predict` samples."""
        return SeedLoader(self.seed, self.num_predict, self.batch_size, self._rank, self._world_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: mirror what the loader drew to be mirrored, and bring `x` to model form."""
        if "x" not in batch:
            return batch
        x = batch["x"]
        if "flip" in batch:  # drawn by the loader, so that it depends on neither the device nor the number of processes
            x = torch.where(batch["flip"].view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        x = self.modality.to_model(x)
        batch = {name: value for name, value in batch.items() if name != "flip"} | {"x": x}
        if self.trainer is not None:
            dtype = self.trainer.lightning_module.dtype  # float64 or bfloat16 where the weights are
            batch |= {k: batch[k].to(dtype) for k in ("x", "y") if k in batch and batch[k].is_floating_point()}
        return batch

    def _evaluation(self, name: str) -> EvalLoader | SeedLoader:
        rank, world_size = self._rank, self._world_size
        if name not in self.splits:
            return SeedLoader(self.seed, self.batch_size * world_size, self.batch_size, rank, world_size)
        return EvalLoader(self.split(name), self.batch_size, rank, world_size, self.num_workers, self._pin)

    def _progress(self, length: int) -> dict[str, Any]:
        """Where the trainer stands, for a loader of `length` batches.

        Lightning restores a loader's own state in the middle of an epoch, but not from a checkpoint made at the end of
        one: then the number of epochs done tells the order that comes next.
        """
        if self.trainer is None:
            return {}
        limit = self.trainer.limit_train_batches
        return {
            "epoch": self.trainer.fit_loop.epoch_progress.current.processed,  # type: ignore[attr-defined]
            "limit": limit if isinstance(limit, int) else int(limit * length),
            "reshuffle": not self.trainer.overfit_batches,  # type: ignore[attr-defined]
        }

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    @property
    def _pin(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def require(condition: bool, key: str, value: object, right: str) -> None:
    """Check an argument.

    Args:
        condition: whether the value is right.
        key: name of the argument.
        value: what it is.
        right: what it should be, after "it must be".

    Raises:
        UserError: it is not.
    """
    if not condition:
        raise UserError(f"data.init_args.{key} is {value!r}; it must be {right}")


def holdout(count: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Split positions 0…count-1 at random, by a fixed seed: those kept, and round(count × fraction) held out.

    Returns:
        Two int64 tensors in ascending order. Each has a position at least if 0 < fraction < 1 and count ≥ 2.

    Raises:
        UserError: `fraction` is not in [0, 1), or leaves a side empty.
    """
    require(0 <= fraction < 1, "val_fraction", fraction, "in [0, 1)")
    held = max(round(count * fraction), int(fraction > 0))
    require(held < count or not count, "val_fraction", fraction, f"smaller, for {count} samples leave none to train on")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return order[held:].sort().values, order[:held].sort().values
