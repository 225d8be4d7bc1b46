"""Many images and few labels: data for semi-supervised learning."""

from functools import cached_property
from typing import Any, final

import torch
from torch import Tensor

from lightning_gen.data.base import DataModule, require
from lightning_gen.data.loader import Companion, epoch_order
from lightning_gen.data.rows import Batch, TensorRows
from lightning_gen.data.wrapper import DataWrapper
from lightning_gen.errors import UserError
from lightning_gen.noise import sample_seeds

PREFIX = "labelled_"


@final
class Repeated(Companion):
    """Few rows, repeated in ever new orders: sample p of the stream gets row πₖ(p mod L) of L, k = ⌊p / L⌋.

    Args:
        rows: (L,) samples with classes, in memory.
        seed: of the permutations π₀, π₁, … and of mirroring.
        flip: add `labelled_flip` (B,) bool, which samples to mirror, drawn anew in each repetition.
    """

    def __init__(self, rows: TensorRows, seed: int, flip: bool = False) -> None:
        self.rows, self.flip = rows, flip
        # a seed of its own: the order of the unlabelled samples comes from the run's
        self.seed = int(sample_seeds(seed, torch.tensor([2**40])))

    def beside(self, position: Tensor) -> Batch:
        """`labelled_x` (B, …) in stored form and `labelled_y` (B,) int64."""
        turn, place = position // len(self.rows), position % len(self.rows)
        turns, which = turn.unique(return_inverse=True)
        drawn = [epoch_order(len(self.rows), self.seed, k) for k in turns.tolist()]
        index = torch.stack([order for order, _ in drawn])[which, place]
        batch = self.rows[index]
        if self.flip:
            batch["flip"] = torch.stack([mirrored for _, mirrored in drawn])[which, index]
        return {f"{PREFIX}{name}": value for name, value in batch.items()}


class FewLabels(DataWrapper):
    """A labelled source of whose training samples only a few keep their label, equally many of each class.

    A training batch holds `x` (B, …), of all training samples and without classes, and as many labelled samples
    `labelled_x` (B, …) with their classes `labelled_y` (B,): the few, repeated in an order that is shuffled anew for
    each repetition. Which they are depends on `label_seed` alone, their order on `seed` and the number of samples read.
    The labelled samples are among the unlabelled too. Everything else is the source's: the splits val and test, and
    the training samples with all their classes where metrics ask for them.

    Source: Salimans et al., "Improved Techniques for Training GANs", 2016, section 5 (labels balanced over classes).

    Args:
        data: the source; of its own batch size, seed and so on nothing is used.
        num_labels: training samples that keep their label, a multiple of the number of classes, ≥ 1.
        label_seed: any integer; which samples these are.
        **kwargs: `batch_size`, `num_workers`, `seed` and `num_predict` of `DataModule`.

    Raises:
        UserError: an argument is out of its range; later, the source has no classes, too few samples of one, or
            `num_labels` cannot be shared among them.
    """

    def __init__(self, data: DataModule, num_labels: int = 100, label_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        require(num_labels >= 1, "num_labels", num_labels, "at least 1")
        self.num_labels, self.label_seed = num_labels, label_seed

    def setup(self, stage: str) -> None:
        """Load what `stage` needs; labels that cannot be drawn end a run at its start."""
        super().setup(stage)
        if stage == "fit":
            _ = self.labelled

    @cached_property
    def labelled(self) -> TensorRows:
        """The training samples that keep their label, (num_labels,), in memory.

        Raises:
            UserError: the source has no classes, too few samples of one, or `num_labels` cannot be shared among them.
        """
        rows = self.split("train")
        batch = rows[self._drawn(rows.y)]
        return TensorRows(batch["x"], batch["y"])

    @property
    def companion(self) -> Companion:
        """The labelled samples, repeated."""
        return Repeated(self.labelled, self.seed, self.flip)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: both the unlabelled and the labelled samples as the model sees them."""
        labelled = {name.removeprefix(PREFIX): value for name, value in batch.items() if name.startswith(PREFIX)}
        others = {name: value for name, value in batch.items() if not name.startswith(PREFIX)}
        if not labelled:
            return super().on_after_batch_transfer(batch, dataloader_idx)
        labelled = super().on_after_batch_transfer(labelled, dataloader_idx)
        more = {f"{PREFIX}{name}": value for name, value in labelled.items()}
        return super().on_after_batch_transfer(others, dataloader_idx) | more

    def _drawn(self, y: Tensor | None) -> Tensor:
        """Positions (num_labels,) of the samples that keep their label, ascending."""
        source, count = type(self.data).__name__, self.num_classes
        if y is None or y.ndim != 1 or count is None:
            raise UserError(f"data.init_args.data is {source}, which has no classes: use data with one class a sample")
        right = f"a multiple of {count}, the number of classes of {source}"
        require(self.num_labels % count == 0, "num_labels", self.num_labels, right)
        each = self.num_labels // count
        fewest = int(y.bincount(minlength=count).min())
        right = f"at most {fewest * count}, as a class of {source} has only {fewest} training samples"
        require(each <= fewest, "num_labels", self.num_labels, right)
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.label_seed))
        # of a random order, the first `each` of every class
        return torch.cat([order[y[order] == k][:each] for k in range(count)]).sort().values
