"""Pictures of the way from one sample to another."""

from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_gen.abilities import Interpolates, require
from lightning_gen.callbacks.grid import save_picture, show_picture
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.callbacks.validations import AtValidations
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.noise import sample_seeds

if TYPE_CHECKING:
    import numpy as np


class LatentWalk(AtValidations):
    """Draws walks between samples at validations, one a row, always of the same noise.

    The picture goes to `walks/step=….png` in the run's folder and to TensorBoard.

    Args:
        rows: number of walks, ≥ 1.
        columns: samples on each, ends included, ≥ 2.
        every_n_validations: validations from one picture to the next, ≥ 1.
        seed: names the set of noise that the ends come from.

    Raises:
        UserError: if an argument is out of its range; before training, if the model cannot interpolate.
    """

    def __init__(self, rows: int = 8, columns: int = 8, every_n_validations: int = 1, seed: int = 0) -> None:
        for name, value, least in (("rows", rows, 1), ("columns", columns, 2)):
            if value < least:
                raise UserError(f"LatentWalk.{name} is {value}: it must be at least {least}")
        super().__init__(every_n_validations)
        self.rows, self.columns, self.seed = rows, columns, seed

    @property
    def state_key(self) -> str:
        """Several may be drawn in one run."""
        return f"LatentWalk[{self.rows},{self.columns},{self.seed}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See that the model can interpolate."""
        require_interpolation(pl_module, "the callback LatentWalk")

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on rank zero alone: sampling needs no other rank."""
        if trainer.state.fn != "fit":
            return
        folder = run_folder(trainer) / "walks"
        if trainer.is_global_zero:
            assert isinstance(pl_module, Interpolates)
            picture = walk(pl_module, trainer.datamodule, self.rows, self.columns, self.seed)  # type: ignore[attr-defined]
            save_picture(picture, folder / f"step={trainer.global_step:06d}.png")
            show_picture(trainer, picture, "walks")


def walk(
    model: Interpolates, data: DataModule, rows: int, columns: int, seed: int, y: Tensor | None = None
) -> "np.ndarray":
    """Walks between the samples 2k and 2k + 1 of the set `seed`, one a row, as one picture.

    Args:
        model: what is sampled, with whatever weights it holds now.
        data: whose modality knows how samples are shown.
        rows: number of walks.
        columns: samples on each.
        seed: names the set of noise.
        y: (rows,) classes or (rows, K) attributes, the same all the way; drawn when None.

    Returns:
        (H, W, 3) uint8 array.
    """
    ends = sample_seeds(seed, torch.arange(2 * rows)).view(rows, 2)
    t = torch.linspace(0, 1, columns).repeat(rows)
    a, b = (ends[:, k].repeat_interleave(columns) for k in (0, 1))
    y = None if y is None else y.repeat_interleave(columns, dim=0)
    return data.modality.grid(model.interpolate(a, b, t, y), columns)


def require_interpolation(model: object, asker: str) -> None:
    """Raise `UserError` unless the model can walk between samples."""
    require(model, Interpolates, asker, "interpolate")
