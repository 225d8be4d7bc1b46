"""What a user watches while a model trains: how far, how fast, how much memory."""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lightning_gen.model import every


class StepProgressBar(TQDMProgressBar):
    """One bar over `trainer.max_steps` instead of one an epoch; an epoch's bar where there is no such limit.

    Args:
        refresh_rate: steps from one refresh to the next; each reads the logged losses from the device.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def init_validation_tqdm(self) -> Tqdm:
        """No second bar while training: what takes time in a validation is sampling, which it would not show."""
        bar = super().init_validation_tqdm()
        bar.disable = bar.disable or self.trainer.state.fn == "fit"
        return bar

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar at the step that training starts from."""
        super().on_train_start(trainer, pl_module)
        if trainer.max_steps > 0:
            self.train_progress_bar.reset(total=trainer.max_steps)
            self.train_progress_bar.set_description("Step")
            self.train_progress_bar.initial = self.train_progress_bar.n = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Leave the bar alone when it counts steps."""
        if trainer.max_steps <= 0:
            super().on_train_epoch_start(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, idx: int
    ) -> None:
        """Advance to the current step."""
        if trainer.max_steps <= 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, idx)
        elif trainer.global_step % self.refresh_rate == 0 or trainer.global_step == trainer.max_steps:
            self.train_progress_bar.n = trainer.global_step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the postfix of the last step when the bar counts steps."""
        if trainer.max_steps <= 0:
            super().on_train_epoch_end(trainer, pl_module)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Logged values for the bar, without the version number."""
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k != "v_num"}


class Throughput(Callback):
    """Logs `samples_per_second` (all processes together), `step_time` in seconds and `peak_memory` in MiB.

    Measured over the steps between two logged ones, validation excluded; nothing waits for the device. Memory is that
    of the device on a GPU, of the process otherwise.
    """

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._since, self._steps, self._samples = time.perf_counter(), 0, 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._restart()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave validation out."""
        self._restart()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, and log when the logger does."""
        self._steps += 1
        self._samples += len(next(iter(batch.values()))) * trainer.world_size
        if every(trainer.global_step, trainer.log_every_n_steps):  # type: ignore[attr-defined]
            elapsed = time.perf_counter() - self._since
            pl_module.log("samples_per_second", self._samples / elapsed, prog_bar=True)
            pl_module.log_dict({"step_time": elapsed / self._steps, "peak_memory": _peak_memory(pl_module.device)})
            self._restart()


def _peak_memory(device: torch.device) -> float:
    """In MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource  # absent on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
