"""What models say of held-out samples, in the file of all that was measured."""

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_gen.callbacks.records import record
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.held_out import HeldOutMeans


class HeldOutRecord(Callback):
    """Writes a model's own held-out means (`val_error`, `val_elbo`, …) to `metrics.csv`; the command adds it to `fit`.

    Attributes:
        validations: how many there have been in this process.
    """

    def __init__(self) -> None:
        self.validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Here the means over all processes have been logged."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self.validations += 1
        names = pl_module.held_out_names if isinstance(pl_module, HeldOutMeans) else ()
        means = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        folder = run_folder(trainer)
        if means and trainer.is_global_zero:
            record(folder, trainer.global_step, means, {name: {"split": "val", "rows": "all"} for name in means})
