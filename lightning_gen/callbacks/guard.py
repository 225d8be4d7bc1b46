"""Stops a run whose loss is no longer a number."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.model import every


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
        self._seen += [
            (trainer.global_step, k, v.detach()) for k, v in outputs.items() if isinstance(v, Tensor) and v.ndim == 0
        ]
        if every(trainer.global_step, trainer.log_every_n_steps) or len(self._seen) > _MOST:  # type: ignore[attr-defined]
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """No effort on samples of a broken model."""
        if self.enabled:
            self._check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the last steps."""
        if self.enabled:
            self._check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A broken model is not saved."""
        if not self.enabled:
            return
        self._check(trainer)
        parameters = dict(pl_module.named_parameters())
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(list(parameters.values()))])
        if not trainer.strategy.reduce_boolean_decision(bool(norms.isfinite().all()), all=True):
            names = [name for name, norm in zip(parameters, norms.isfinite().tolist(), strict=True) if not norm]
            raise UserError(
                f"the weights {', '.join(names[:3]) or 'of another process'} are not finite at step"
                f" {trainer.global_step}; {_ADVICE}"
            )

    def _check(self, trainer: Trainer) -> None:
        """Raise on every rank if a term on any of them is not finite; called at the same steps on all."""
        seen, self._seen = self._seen, []
        finite = torch.stack([value.float() for *_, value in seen]).isfinite() if seen else torch.ones(1)
        if trainer.strategy.reduce_boolean_decision(bool(finite.all()), all=True):
            return
        if bool(finite.all()):
            raise UserError(f"a term of the loss is not finite in another process; {_ADVICE}")
        step, name, value = seen[int((~finite).nonzero()[0])]
        raise UserError(f"{name} is {value.item()} at step {step}; {_ADVICE}")


_MOST = 1000  # terms remembered at most
_ADVICE = (
    "checkpoints written so far are from before it: lower the learning rate or clip gradients, go on from one with"
    " --ckpt_path last if there is any, or set finite_guard.enabled to false"
)
