"""Pictures of held-out samples and what the model reconstructs from them."""

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_gen.abilities import Reconstructs, require
from lightning_gen.callbacks.grid import save_picture, show_picture
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.callbacks.validations import AtValidations
from lightning_gen.data import DataModule, Images
from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out import HeldOutRows, in_model_form
from lightning_gen.model import GenerativeModel

if TYPE_CHECKING:
    import numpy as np

COLUMNS = 8


class Reconstructions(AtValidations):
    """Draws held-out samples and their reconstructions at validations, always the same samples.

    Images stand in rows of eight, each row of originals above that of their reconstructions; points in two scatter
    plots side by side. The picture goes to `reconstructions/step=….png` in the run's folder and to TensorBoard.

    Args:
        num: number of samples, the first of the split, ≥ 1.
        split: of the data; None for "val" where there is one, else "test", else "train".
        every_n_validations: validations from one picture to the next, ≥ 1.

    Raises:
        UserError: if an argument is out of its range; before training, if the model cannot reconstruct or the data have
            no such split.
    """

    def __init__(self, num: int = 32, split: str | None = None, every_n_validations: int = 1) -> None:
        if num < 1:
            raise UserError(f"Reconstructions.num is {num}: it must be at least 1")
        super().__init__(every_n_validations)
        self.num, self.split = num, split

    @property
    def state_key(self) -> str:
        """Several may be drawn in one run."""
        return f"Reconstructions[{self.num},{self.split}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that the model can reconstruct, and the split is there."""
        require(pl_module, Reconstructs, "the callback Reconstructions", "reconstruct samples")
        shown_split(trainer.datamodule, self.split, "Reconstructions.split")  # type: ignore[attr-defined]

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on rank zero alone."""
        if trainer.state.fn != "fit":
            return
        folder = run_folder(trainer) / "reconstructions"
        if trainer.is_global_zero:
            assert isinstance(pl_module, GenerativeModel)
            data = trainer.datamodule  # type: ignore[attr-defined]
            split = shown_split(data, self.split, "Reconstructions.split")
            picture = reconstruction_picture(pl_module, data, split, self.num)
            save_picture(picture, folder / f"step={trainer.global_step:06d}.png")
            show_picture(trainer, picture, "reconstructions")


def reconstruction_picture(model: GenerativeModel, data: DataModule, split: str, num: int) -> "np.ndarray":
    """The first `num` samples of a split and their reconstructions as one picture, see `Reconstructions`.

    Args:
        model: with whatever weights it holds now.
        data: where the samples are.
        split: one of its splits.
        num: number of samples, cut to those that there are.

    Returns:
        (H, W, 3) uint8 array.
    """
    rows = first_rows(model, data, split, num)
    x, made = rows.x, rows.reconstructions
    if not isinstance(data.modality, Images):
        import numpy as np

        return np.concatenate([data.modality.grid(each, COLUMNS) for each in (x, made)], axis=1)
    columns = min(COLUMNS, len(x))
    black = x.new_full((-len(x) % columns, *x.shape[1:]), -1)
    pairs = torch.stack([torch.cat((each, black)).unflatten(0, (-1, columns)) for each in (x, made)], dim=1)
    return data.modality.grid(pairs.flatten(0, 2), columns)


def first_rows(model: GenerativeModel, data: DataModule, split: str, num: int) -> HeldOutRows:
    """The first `num` rows of a split in model form, or all that there are."""
    rows = data.split(split)
    index: Tensor = torch.arange(min(num, len(rows)))
    return in_model_form(model, data, {**rows[index], "index": index}, seed=0)


def shown_split(data: DataModule, split: str | None, key: str) -> str:
    """The split that is asked for, or the first there is of val, test and train.

    Args:
        data: where the samples are.
        split: what is asked for.
        key: of the argument, for messages.

    Raises:
        UserError: if the data have no such split.
    """
    if split is None:
        return next(name for name in ("val", "test", "train") if name in data.splits)
    if split not in data.splits:
        raise UserError(f"{key} is {split!r}, which data does not have: use any of {', '.join(data.splits)}")
    return split
