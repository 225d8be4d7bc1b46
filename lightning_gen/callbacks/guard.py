"""Stops a run whose loss is no longer a number."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_gen.errors import UserError


class FiniteGuard(Callback):
    """Stops training when a term of the loss is NaN or infinite, before a checkpoint is overwritten.

    Terms are what `training_step` returns. They stay on the device and are looked at together, once every
    `trainer.log_every_n_steps` and before each save, so that no step waits for the host.

    Args:
        enabled: False lets a run go on with NaN.
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self._seen: list[tuple[int, str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        """Remember the step's terms; look at them when due."""
        if not self.enabled or not isinstance(outputs, dict):
            return
        self._seen += [(trainer.global_step, k, v.detach()) for k, v in outputs.items() if isinstance(v, Tensor)]
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """No effort on samples of a broken model."""
        self._check()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last steps."""
        self._check()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A broken model is not saved."""
        if not self.enabled:
            return
        self._check()
        for name, parameter in pl_module.named_parameters():
            if not bool(parameter.isfinite().all()):
                raise UserError(f"the weights {name!r} are not finite at step {trainer.global_step}; {_ADVICE}")

    def _check(self) -> None:
        seen, self._seen = self._seen, []
        if seen and not bool((finite := torch.stack([v.float().mean() for *_, v in seen]).isfinite()).all()):
            step, name, value = seen[int((~finite).nonzero()[0])]
            raise UserError(f"{name} is {value.float().mean().item()} at step {step}; {_ADVICE}")


_ADVICE = (
    "the last checkpoint written is from before it: lower the learning rate or clip gradients and resume with"
    " --ckpt_path last, or set finite_guard.enabled to false"
)
