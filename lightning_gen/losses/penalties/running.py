"""Means over updates, each of which may have several batches and processes."""

import torch
from torch import Tensor, nn


class RunningMean(nn.Module):
    """An exponential moving average that gathers the batches of an update, and moves once after it.

    Processes average its buffers in between, so they hold the same mean as one process would.

    Args:
        decay: of the average, per update, in [0, 1).
        from_first: start at the first update's mean; else at 0.
    """

    value: Tensor
    started: Tensor
    total: Tensor
    batches: Tensor

    def __init__(self, decay: float, from_first: bool) -> None:
        super().__init__()
        self.decay = decay
        for name in ("value", "started", "total", "batches"):
            self.register_buffer(name, torch.zeros(()))
        if not from_first:
            self.started.fill_(1.0)

    @torch.no_grad()
    def add(self, mean: Tensor) -> None:
        """Take note of a batch's mean."""
        self.total += mean
        self.batches += 1

    @torch.no_grad()
    def advance(self) -> None:
        """Move by the mean of the batches, where there were any."""
        seen = self.batches > 0
        moved = self.value + (1 - self.decay * self.started) * (self.total / self.batches.clamp(min=1) - self.value)
        self.value.copy_(torch.where(seen, moved, self.value))
        self.started.copy_(torch.where(seen, 1.0, self.started))
        self.total.zero_()
        self.batches.zero_()
