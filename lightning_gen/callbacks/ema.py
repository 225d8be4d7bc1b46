"""Exponential moving averages of weights (Polyak, Juditsky, 1992), as every strong generator is sampled with."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_gen.errors import UserError


class EMA(Callback):
    """Averages the parameters of named submodules and copies their buffers, once a step.

        θ̄ ← d·θ̄ + (1 − d)·θ,    d = min(decay, (1 + t) / (10 + t)) after t updates that count

    The average takes the model's place from the start to the end of validation, test and prediction, so whatever
    samples there sees it. Checkpoints hold the raw weights as the model's state and the average as this callback's.

    Args:
        modules: submodules to average, by attribute name.
        decay: d, in [0, 1).
        warmup: ramp d up from 0.1, so that early samples are not dominated by the initial weights.
        start_step: first step that is averaged; before it the average follows the weights.
        half_life: instead of `decay` and `warmup`: h, the steps after which a weight's share has halved, d = 2^(−1/h).
        ramp: with `half_life`, h is at most this share of the updates so far (Karras et al., "Training Generative
            Adversarial Networks with Limited Data", NeurIPS 2020: 0.05); None for no ramp.

    Raises:
        UserError: if a number is out of its range, or a name in `modules` is not a submodule of the model.
    """

    def __init__(
        self,
        modules: list[str] | None = None,
        decay: float = 0.999,
        warmup: bool = True,
        start_step: int = 0,
        half_life: float | None = None,
        ramp: float | None = None,
    ) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA.decay is {decay}: it must be at least 0 and below 1")
        if half_life is not None and not half_life >= 0:
            raise UserError(f"EMA.half_life is {half_life}: it counts steps and must be at least 0")
        if ramp is not None and (half_life is None or not ramp > 0):
            raise UserError(f"EMA.ramp is {ramp}: it must be above 0, and needs a half_life")
        self.modules = modules or ["generator"]
        self.decay = decay
        self.warmup = warmup
        self.start_step = start_step
        self.half_life = half_life
        self.ramp = ramp
        self.averaged: dict[str, Tensor] = {}
        self.updates = 0
        self._parameters: list[tuple[Tensor, Tensor]] = []  # of each averaged tensor and the live one
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._swapped = False
        self._last_step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the names before anything runs."""
        own = dict(pl_module.named_children())
        for name in self.modules:
            if name not in own:
                raise UserError(
                    f"EMA.modules names {name!r}, which the model does not have: use any of {', '.join(own)}"
                )

    # ---------------------------------------------------------------- averaging

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the model's weights, or go on from the checkpoint's average."""
        self._bind(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know the step that training starts from."""
        self._last_step = trainer.global_step

    def _bind(self, model: LightningModule) -> None:
        """Pair every averaged tensor with its live one, on the device of the model."""
        live: dict[str, Tensor] = {}
        for name in self.modules:
            live |= {f"{name}.{key}": t for key, t in model.get_submodule(name).state_dict(keep_vars=True).items()}
        self.averaged = {
            name: self.averaged[name].to(t.device) if name in self.averaged else t.detach().clone()
            for name, t in live.items()
        }
        pairs = [(self.averaged[name], t) for name, t in live.items()]
        self._parameters = [pair for pair in pairs if isinstance(pair[1], nn.Parameter)]
        self._buffers = [pair for pair in pairs if not isinstance(pair[1], nn.Parameter)]

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """One update a step; every operation covers all tensors at once."""
        if trainer.global_step == self._last_step:  # a batch whose gradients wait for more
            return
        self._last_step = trainer.global_step
        started = trainer.global_step >= self.start_step
        decay = self.current_decay() if started else 0.0
        averaged, live = zip(*self._parameters, strict=True)
        torch._foreach_lerp_(averaged, live, 1.0 - decay)
        if self._buffers:  # an averaged spectral-norm vector or running variance belongs to no weights at all
            averaged, live = zip(*self._buffers, strict=True)
            torch._foreach_copy_(averaged, live)
        self.updates += started

    def current_decay(self) -> float:
        """The decay d of the next update."""
        if self.half_life is not None:
            steps = self.half_life if self.ramp is None else min(self.half_life, self.ramp * self.updates)
            return 0.5 ** (1 / steps) if steps > 0 else 0.0
        return min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay

    # ---------------------------------------------------------------- taking the model's place

    def _swap(self, model: LightningModule) -> None:
        if not self.averaged:  # nothing was trained or loaded
            return
        if not self._parameters:
            self._bind(model)
        for averaged, live in (*self._parameters, *self._buffers):  # storages change hands; nothing is copied
            averaged.data, live.data = live.data, averaged.data
        self._swapped = not self._swapped

    def _swap_in(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._swapped:
            self._swap(pl_module)

    def _swap_out(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._swapped:
            self._swap(pl_module)

    on_validation_start = on_test_start = on_predict_start = _swap_in
    on_validation_end = on_test_end = on_predict_end = _swap_out

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the weights back when a validation fails."""
        self._swap_out(trainer, pl_module)

    # ---------------------------------------------------------------- checkpoints

    @property
    def state_key(self) -> str:
        """One entry in a checkpoint for each set of modules."""
        return f"EMA[{','.join(self.modules)}]"

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return {"averaged": self.averaged, "updates": self.updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.averaged = dict(state_dict["averaged"])
        self.updates = state_dict["updates"]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint written while the average is in the model's place still holds each where it belongs."""
        if self._swapped:
            state = checkpoint["state_dict"]
            averaged = {name: state[name] for name in self.averaged}
            state.update(self.averaged)
            if "callbacks" in checkpoint:
                checkpoint["callbacks"][self.state_key] = {"averaged": averaged, "updates": self.updates}


def averaged_state(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The averaged tensors that a checkpoint holds, by their names in the model's state; empty if there are none."""
    averaged: dict[str, Tensor] = {}
    for key, state in checkpoint.get("callbacks", {}).items():
        if key.startswith("EMA["):
            averaged |= state["averaged"]
    return averaged
