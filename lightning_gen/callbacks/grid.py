"""Pictures of samples while training, always of the same noise."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.callbacks.validations import AtValidations
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel
from lightning_gen.noise import sample_seeds

if TYPE_CHECKING:
    import numpy as np


class SampleGrid(AtValidations):
    """Draws the same samples at validations and writes them as one picture.

    The picture goes to `grids/step=….png` in the run's folder (`grids_seed=…` for a seed other than 0) and to
    TensorBoard. Classes of a conditional model stand one a row; points are shown as a scatter plot.

    Args:
        num: number of samples, ≥ 1; None for what the data's kind shows well (64 images, 2,500 points). Of a
            conditional model as many for each class, at least one.
        every_n_validations: validations from one picture to the next, ≥ 1.
        seed: names the set of noise that is shown.
    """

    def __init__(self, num: int | None = None, every_n_validations: int = 1, seed: int = 0) -> None:
        if num is not None and num < 1:
            raise UserError(f"SampleGrid.num is {num}: it must be at least 1")
        super().__init__(every_n_validations)
        self.num = num
        self.seed = seed

    @property
    def state_key(self) -> str:
        """Several grids may be drawn in one run."""
        return f"SampleGrid[{self.num},{self.seed}]"

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, on rank zero alone: sampling needs no other rank."""
        if trainer.state.fn != "fit":
            return
        folder = run_folder(trainer) / ("grids" if self.seed == 0 else f"grids_seed={self.seed}")
        if trainer.is_global_zero:
            assert isinstance(pl_module, GenerativeModel)
            self._draw(trainer, pl_module, folder / f"step={trainer.global_step:06d}.png")

    def _draw(self, trainer: Trainer, model: GenerativeModel, path: Path) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        picture = grid(model, data, self.num or data.modality.picture_size, self.seed)
        save_picture(picture, path)
        show_picture(trainer, picture, path.parent.name)


def grid(model: GenerativeModel, data: DataModule, num: int, seed: int, y: Tensor | None = None) -> "np.ndarray":
    """Samples 0 to `num` − 1 of the set `seed` as one picture.

    Args:
        model: what is sampled, with whatever weights it holds now.
        data: whose modality knows how samples are shown.
        num: number of samples.
        seed: names the set of noise.
        y: (num,) classes or (num, K) attributes; None for all classes of a conditional model, one a row.

    Returns:
        (H, W, 3) uint8 array.
    """
    columns = math.ceil(math.sqrt(num))
    if y is None and (y := model.condition.one_each(num)) is not None:
        num, columns = len(y), int((y == y[0]).sum())
    samples = model.sample(num, y, seeds=sample_seeds(seed, torch.arange(num)))
    return data.modality.grid(samples, columns)


def save_picture(picture: "np.ndarray", path: Path) -> None:
    """Write an (H, W, 3) uint8 array as PNG, making the folder."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def show_picture(trainer: Trainer, picture: "np.ndarray", name: str) -> None:
    """Hand an (H, W, 3) uint8 array to TensorBoard, where the trainer logs to it."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, trainer.global_step, dataformats="HWC")
