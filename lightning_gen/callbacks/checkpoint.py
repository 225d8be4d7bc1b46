"""The checkpoint that a run goes on from."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.errors import UserError


class LastCheckpoint(Checkpoint):
    """Keeps `checkpoints/last.ckpt` in the run's folder: every so many steps and when training ends.

    Where a validation follows the step, the save waits for its end: a run that is killed in between must repeat the
    validation, and one that is killed after it must not forget its result. List it after `ModelCheckpoint`, whose
    record of the best it holds (the command line sees to that).

    Args:
        every_n_train_steps: steps from one save to the next, ≥ 1; what a killed run loses at most.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        if every_n_train_steps < 1:
            raise UserError(f"LastCheckpoint.every_n_train_steps is {every_n_train_steps}: it must be at least 1")
        self.every_n_train_steps = every_n_train_steps
        self._saved = -1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save when due, unless a validation comes first."""
        loop = trainer.fit_loop
        if self._due(trainer) and not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what had to wait for the validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._due(trainer):
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what came after the last time."""
        if self._saved != trainer.global_step:
            self._save(trainer)

    def _due(self, trainer: Trainer) -> bool:
        return trainer.global_step % self.every_n_train_steps == 0

    def _save(self, trainer: Trainer) -> None:
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(run_folder(trainer) / "checkpoints" / "last.ckpt")
            self._saved = trainer.global_step
