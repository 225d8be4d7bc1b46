"""Files of what `predict` makes."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.metrics.distributed import from_rank_zero


class SampleWriter(BasePredictionWriter):
    """Writes predicted samples to `predictions/` in the run's folder, one PNG an image or one array of points."""

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Agree on the folder."""
        self.folder = run_folder(trainer) / "predictions"
        data = trainer.datamodule  # type: ignore[attr-defined]
        from_rank_zero(
            lambda: data.modality.prepare(self.folder, data.num_predict, data.sample_shape), trainer.world_size
        )

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the batch's rows."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        data.modality.write(self.folder, prediction, batch["index"], data.num_predict)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where they are."""
        if trainer.is_global_zero:
            print(f"\nsamples  {self.folder}")
