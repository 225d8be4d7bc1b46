"""Means over held-out samples, logged at the end of every validation and test."""

import lightning as L
import torch
from torch import Tensor

HELD_OUT_SEED = 0
"""Held-out samples get their noise from this seed, whatever the run's: a score must not depend on the seed of a run."""


class HeldOutMeans(L.LightningModule):
    """Averages what a family says of held-out samples; equal for any batch size and number of processes."""

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """Under which names the means are logged; none by default."""
        return ()

    def held_out(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Numbers about held-out samples, (n,) for each of `held_out_names`; called without gradients.

        Args:
            batch: `x` (B, …), `y` where the data have one, and `index` (B,) int64, the place in the split.
        """
        raise NotImplementedError

    def held_out_rows(self, batch: dict[str, Tensor]) -> int:
        """How many of a batch's rows `held_out` takes."""
        return len(batch["x"])

    def on_validation_epoch_start(self) -> None:
        """Start the means."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._sums = torch.zeros(len(self.held_out_names) + 1, dtype=dtype, device=self.device)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add a batch of the split, where there is one."""
        rows = self.held_out_rows(batch) if "x" in batch and self.held_out_names else 0
        if rows:  # a process may have none
            values = self.held_out({key: value[:rows] for key, value in batch.items()})
            columns = torch.stack([values[name].to(self._sums) for name in self.held_out_names])
            self._sums += torch.cat((columns.sum(dim=1), self._sums.new_full((1,), columns.shape[1])))

    def on_validation_epoch_end(self) -> None:
        """Log the means over all processes."""
        if not self.held_out_names:
            return
        *sums, count = self.trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        if count:
            means = {name: total / count for name, total in zip(self.held_out_names, sums, strict=True)}
            self.log_dict(means, prog_bar=True)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The same as validation."""
        self.validation_step(batch, batch_idx)
