"""What every metric of held-out rows keeps: each row counts once, for any batch size and number of processes."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.metrics.distributed import all_sum
from lightning_gen.noise import Noise, sample_seeds

Directions = dict[str, bool | None]
"""Whether a higher value is better, by the value's name; None where neither is."""


class HeldOutRows:
    """A batch of rows, and what the model makes of it; what several metrics use is computed once.

    Args:
        model: a `GenerativeModel` with the abilities that the metrics need.
        x: (B, …) samples in model form.
        y: (B,) classes or (B, K) attributes as the model's networks take them, or None.
        index: (B,) int64 places in the split.
        seed: of the noise.
    """

    def __init__(self, model: Any, x: Tensor, y: Tensor | None, index: Tensor, seed: int) -> None:
        self.model, self.x, self.y, self.index, self.seed = model, x, y, index, seed

    def __len__(self) -> int:
        return len(self.x)

    def noise(self) -> Noise:
        """A stream a row that begins anew at each call, so no metric changes what another draws."""
        return Noise(sample_seeds(self.seed, self.index), self.x.device)

    @cached_property
    def latents(self) -> Tensor:
        """(B, d) encodings."""
        return self.model.encode(self.x, self.y).flatten(1)

    @cached_property
    def reconstructions(self) -> Tensor:
        """(B, …) in model form."""
        return self.model.reconstruct(self.x, self.y)


class HeldOutMetric(ABC):
    """Numbers about the rows of a split under a model.

    `check`, then `begin`, `update` with every row once, and `compute`. Every state is a float64 tensor that begins at
    zero and is summed over processes, so the value is the same for any batch size and number of processes. A subclass
    declares its states in `start` and writes `accumulate` and `values`.
    """

    prefix: ClassVar[str]
    """Names the metric in protocols; its values are named by `directions`."""

    def __init__(self) -> None:
        self._states: dict[str, Tensor] = {}
        self.num_rows = 0

    @property
    @abstractmethod
    def directions(self) -> Directions:
        """The names of the values, the first one first, and which way they are better."""

    @abstractmethod
    def check(self, model: Any, data: Any) -> None:
        """Refuse a model or data that the metric cannot be about, before anything is trained or measured.

        Args:
            model: what is measured, or one like it without weights (on torch's device "meta").
            data: the `DataModule`.

        Raises:
            UserError: if the model lacks an ability, or the data do not have what is needed.
        """

    @abstractmethod
    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """Declare the states by `add_state`.

        Args:
            first: the first row of the split, in every process; to see shapes by.
            data: the `DataModule`.
            split: which of its splits is measured.
        """

    @abstractmethod
    def accumulate(self, rows: HeldOutRows) -> None:
        """Add rows to the states."""

    @abstractmethod
    def values(self, states: dict[str, Tensor]) -> dict[str, float]:
        """The values, and what belongs to them, from the states of all processes; called on rank zero alone."""

    def begin(self, first: HeldOutRows, data: Any, split: str, num_rows: int) -> None:
        """Forget what was seen, and get ready for `num_rows` rows over all processes; the others as in `start`."""
        self._states, self.num_rows = {}, num_rows
        self.start(first, data, split)

    def update(self, rows: HeldOutRows) -> None:
        """Add this process's next rows."""
        with torch.no_grad(), torch.autocast(rows.x.device.type, enabled=False):
            self.accumulate(rows)

    def reduced(self, world_size: int) -> dict[str, Tensor]:
        """The states summed over processes, on the CPU; this process's memory of them is given back."""
        states, self._states = self._states, {}
        return {name: all_sum(state, world_size).cpu() for name, state in states.items()}

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """What makes two values comparable, beside the rows and the seed of the noise; JSON-able.

        Args:
            model: what is measured, whatever its weights.
            data: the `DataModule`.
        """
        return {"metric": self.prefix}

    def add_state(self, name: str, *shape: int, device: torch.device) -> None:
        """Declare a float64 state."""
        # MPS has no float64
        self._states[name] = torch.zeros(shape, dtype=torch.float64, device="cpu" if device.type == "mps" else device)

    def state(self, name: str) -> Tensor:
        """A state as it is in this process, to be changed in place."""
        return self._states[name]
