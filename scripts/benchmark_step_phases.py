"""Where the time of a step under `fit` goes; used by `benchmark_step.py`."""

import torch
from benchmark_step_recipes import Clock

from lightning_gen.families import GAN

REST = "the rest: data, logging, callbacks, averaging"
CRITIC = "critic, forward and backward"
PENALTIES = "penalties, forward"
GENERATOR = "generator, forward and backward"


class Phases(Clock):
    """A clock that also tells the phases of the steps between its first and its last.

    The device is synchronised wherever a phase begins or ends, and what is timed within another phase is not counted
    there. The backward pass of a penalty is part of the critic's, which runs once for the sum of all terms.

    Attributes:
        taken: seconds by phase.
    """

    def __init__(self, first: int, last: int, device: torch.device) -> None:
        super().__init__(first, last, device)
        self.taken: dict[str, float] = {}
        self._phase, self._since = REST, 0.0

    def watch(self, model: GAN) -> None:
        """Time the parts of a model's step."""
        backward_mean, penalised = model.backward_mean, model._penalised
        step_uncounted, step_counted = model.step_uncounted, model.step_counted

        def in_turn(optimizer, batches, loss):
            phase = GENERATOR if loss == model.generator_loss else CRITIC
            return self._timed(phase, backward_mean, optimizer, batches, loss)

        model.backward_mean = in_turn
        model._penalised = lambda *args: self._timed(PENALTIES, penalised, *args)
        model.step_uncounted = lambda *args: self._timed("critic, optimiser", step_uncounted, *args)
        model.step_counted = lambda *args: self._timed("generator, optimiser and schedules", step_counted, *args)

    def tick(self) -> None:
        """A step has ended."""
        self._enter(REST)
        super().tick()
        if self.step == self.first:
            self.taken = dict.fromkeys(self.taken, 0.0)
            self._since = self.now()

    def _timed(self, phase, function, *args):
        before = self._enter(phase)
        try:
            return function(*args)
        finally:
            self._enter(before)

    def _enter(self, phase: str) -> str:
        """Book the time since the last change of phase, and return the phase that ends."""
        now, before = self.now(), self._phase
        self.taken[before] = self.taken.get(before, 0.0) + now - self._since
        self._phase, self._since = phase, now
        return before
