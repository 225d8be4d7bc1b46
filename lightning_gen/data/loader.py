"""What hands out batches: shuffled and resumable for training, in order and unpadded for evaluation, seeds alone.

These are plain iterables, not torch DataLoaders, so Lightning leaves their sharding and order alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from lightning_gen.data.rows import Batch, Rows
from lightning_gen.noise import sample_seeds


def epoch_order(count: int, seed: int, epoch: int) -> tuple[Tensor, Tensor]:
    """The order of an epoch, a function of `seed` and `epoch` alone.

    Args:
        count: number of samples, ≥ 0.
        seed: any integer.
        epoch: ≥ 0.

    Returns:
        A permutation (count,) int64, and (count,) bool: which *samples* (not positions) are mirrored in this epoch,
        each with probability ½.
    """
    generator = torch.Generator().manual_seed(int(sample_seeds(seed, torch.tensor([epoch]))))
    order = torch.randperm(count, generator=generator)
    return order, torch.randint(2, (count,), generator=generator, dtype=torch.uint8).bool()


def shard(count: int, batch_size: int, rank: int = 0, world_size: int = 1) -> list[Tensor]:
    """Positions rank, rank + world_size, … below `count`, cut in batches: int64 (B,) with B ≤ batch_size.

    Nothing is padded. There is at least one batch, of no positions where a process has none: Lightning skips the hooks
    of an empty loader, and a collective in a hook would then wait for ever.
    """
    return list(torch.arange(count)[rank::world_size].split(batch_size))


class Companion(ABC):
    """What the samples of a training stream get beside them, by their place in the stream."""

    keeps_classes: ClassVar[bool] = False
    """Whether the samples keep their own `y`."""

    @abstractmethod
    def beside(self, position: Tensor) -> Batch:
        """What goes with some samples; its keys are added to those of their batch.

        Args:
            position: (B,) int64 places in the sequence that all processes together read, epoch after epoch; a function
                of the number of samples read alone, so that processes and resumed runs read parts of one sequence.
        """


@final
class TrainLoader:
    """Shuffled batches of equal size, epoch after epoch, that can go on from any batch.

    Of step s in an epoch all processes together take the samples `order[s*G:(s+1)*G]`, G = batch_size × world_size,
    and process r every world_size-th of them from the r-th on; what does not fill a step at the end is left out.
    So several processes see what one process would with a batch as large as theirs together.

    Each `iter()` starts the next epoch, unless no batch of the present one was handed out: then it starts that again.
    (Lightning calls `iter()` several times before it asks for the first batch.)

    Args:
        rows: the samples.
        batch_size: samples a batch on this process, ≥ 1.
        seed: of the shuffling and mirroring.
        epoch: the first epoch, ≥ 0.
        limit: batches an epoch is cut to by the caller (Lightning's `limit_train_batches`); None for all.
        flip: add `flip` (B,) bool, which samples to mirror.
        reshuffle: False repeats the order of epoch 0 for ever.
        rank: of this process, in [0, world_size).
        world_size: number of processes.
        num_workers: processes that decode, see `Rows.stream`.
        pin: see `Rows.stream`.
        companion: what comes beside the samples of each batch, or takes the place of their `y`.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        limit: int | None = None,
        flip: bool = False,
        reshuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin: bool = False,
        companion: Companion | None = None,
    ) -> None:
        self.rows, self.batch_size, self.seed, self.limit, self.flip = rows, batch_size, seed, limit, flip
        self.reshuffle, self.rank, self.world_size = reshuffle, rank, world_size
        self.num_workers, self.pin, self.companion = num_workers, pin, companion
        self._epoch, self._batch = epoch, 0
        self._handed_out = False

    def __len__(self) -> int:
        return len(self.rows) // (self.batch_size * self.world_size)

    def __iter__(self) -> Iterator[Batch]:
        if self._handed_out:
            self._epoch, self._batch, self._handed_out = self._epoch + 1, 0, False
        return self._batches(self._epoch, self._batch)

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        epoch = epoch if self.reshuffle else 0
        order, mirrored = epoch_order(len(self.rows), self.seed, epoch)
        step = self.batch_size * self.world_size
        plan = [order[s * step : (s + 1) * step][self.rank :: self.world_size] for s in range(first, len(self))]
        stream = zip(plan, self.rows.stream(plan, self.num_workers, self.pin), strict=True)
        for s, (index, batch) in enumerate(stream, start=first):
            # before the batch leaves: a checkpoint made while it is used must not repeat it
            self._batch, self._handed_out = self._batch + 1, True
            yield self._complete(batch, mirrored[index], (epoch * len(self) + s) * step)

    def left_out(self) -> Batch | None:
        """This process's share, which may be empty, of what fills no step at the end of the present epoch, if any."""
        epoch = self._epoch if self.reshuffle else 0
        order, mirrored = epoch_order(len(self.rows), self.seed, epoch)
        first = len(self) * self.batch_size * self.world_size
        index = order[first:][self.rank :: self.world_size]
        if first == len(order):
            return None
        batch = self.rows[index if len(index) else order[:1]]  # rows need not know what to do with no index
        batch = {name: value[: len(index)] for name, value in batch.items()}
        return self._complete(batch, mirrored[index], (epoch + 1) * first)

    def _complete(self, batch: Batch, mirrored: Tensor, place: int) -> Batch:
        """A batch of this process with what comes beside it; that of process 0 begins at a place in the stream."""
        more = {"flip": mirrored} if self.flip else {}
        if self.companion is not None:
            lost = () if self.companion.keeps_classes else ("y",)
            batch = {name: value for name, value in batch.items() if name not in lost}
            places = place + self.rank + self.world_size * torch.arange(len(mirrored))
            more |= {n: v.pin_memory() if self.pin else v for n, v in self.companion.beside(places).items()}
        return {**batch, **more}

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: the epoch, and how many of its batches were handed out. Equal on every process."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next `iter()` go on where `state` was taken; after an epoch's last batch, at the next epoch."""
        self._epoch, self._batch, self._handed_out = state["epoch"], state["batch"], False
        last = len(self) if self.limit is None else min(self.limit, len(self))
        if self._batch >= last:
            self._epoch, self._batch = self._epoch + 1, 0


@final
class EvalLoader:
    """Every sample once, in order, with its position: process r has r, r + world_size, …, and nothing is padded.

    Args:
        rows: the samples.
        batch_size: samples a batch, ≥ 1; the last may be shorter (see `shard` for processes without samples).
        rank: of this process, in [0, world_size).
        world_size: number of processes.
        num_workers: processes that decode, see `Rows.stream`.
        pin: see `Rows.stream`.
        limit: only the first so many samples; None for all.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin: bool = False,
        limit: int | None = None,
    ) -> None:
        self.rows, self.num_workers, self.pin = rows, num_workers, pin
        count = len(rows) if limit is None else min(limit, len(rows))
        self.plan = shard(count, batch_size, rank, world_size)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        for index, batch in zip(self.plan, self.rows.stream(self.plan, self.num_workers, self.pin), strict=True):
            yield {**batch, "index": index}


@final
class SeedLoader:
    """Seeds to sample from, for models that are evaluated by what they generate.

    Args:
        seed: names the set of samples, see `lightning_gen.noise.sample_seeds`.
        count: number of samples over all processes, ≥ 1.
        batch_size: samples a batch, ≥ 1.
        rank: of this process, in [0, world_size); it has the samples r, r + world_size, …
        world_size: number of processes.
    """

    def __init__(self, seed: int, count: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.seed, self.plan = seed, shard(count, batch_size, rank, world_size)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        return ({"seeds": sample_seeds(self.seed, index), "index": index} for index in self.plan)
