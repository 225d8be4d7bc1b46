"""What every metric of generated samples keeps: float64 sums, equal for any number of processes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_gen.errors import UserError
from lightning_gen.metrics.distributed import all_reduced
from lightning_gen.metrics.extractors import FeatureExtractor, Features


class GenerativeMetric(Metric, ABC):
    """A number about a set of generated samples.

    `begin(num_samples)`, then `update(x)` or, where several metrics share an extractor, `update_features(features)`,
    then `compute()`. States are float64 sums whatever the trainer's precision. The extractor is not a submodule, so it
    enters no checkpoint, but it follows `.to(device)`.

    A subclass sets `prefix`, `higher_is_better` and `needs_reference`, declares its states by `add_sum`, and writes
    `accumulate` and `compute_all`.

    Args:
        extractor: what describes the samples.
    """

    prefix: ClassVar[str]
    needs_reference: ClassVar[bool] = False
    is_differentiable = False
    full_state_update = False
    extractor: FeatureExtractor
    num_seen: Tensor

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(dist_sync_fn=all_reduced)
        # past nn.Module's __setattr__, which would register it and so save its weights in every checkpoint
        object.__setattr__(self, "extractor", extractor)
        self.num_samples: int | None = None
        self._next_index = 0
        self.add_sum("num_seen")

    @property
    def name(self) -> str:
        """The metric's name with its extractor, such as `fid_digits`."""
        return f"{self.prefix}_{self.extractor.name}"

    @abstractmethod
    def accumulate(self, features: Features, index: Tensor) -> None:
        """Add float64 features of the samples `index`, (B,) int64 on the CPU, B ≥ 1, of the set to the states."""

    @abstractmethod
    def compute_all(self) -> dict[str, Tensor]:
        """Float64 scalars from the states as they are, without communication: `name` first, then what belongs to it."""

    def min_samples(self) -> int:
        """The smallest set that the metric is defined on."""
        return 1

    def check(self, num_samples: int) -> None:
        """Refuse a set that is too small; call it before anything is sampled.

        Raises:
            UserError: if `num_samples` is below `min_samples()`.
        """
        if num_samples < self.min_samples():
            raise UserError(
                f"num_samples is {num_samples}, but {self.name} needs at least {self.min_samples()}: "
                f"set num_samples to {self.min_samples()} or more"
            )

    def fit_reference(self, data: Any, **options: Any) -> None:
        """Measure the data, where the metric needs a reference.

        Args:
            data: a source of rows, see `reference.ReferenceData`.
            options: keyword arguments of `reference.reference_statistics`.
        """

    def begin(self, num_samples: int) -> None:
        """Start a set of `num_samples` samples, counted over all processes.

        Raises:
            UserError: see `check`.
        """
        self.check(num_samples)
        self.num_samples = num_samples
        self.reset()
        # a process whose share is empty has not forgotten to call update, which torchmetrics would warn about
        self._update_count = 1

    def reset(self) -> None:
        """Forget the samples; their number stays as announced."""
        # else, in a validation loop, the states could no longer be updated outside it
        with torch.inference_mode(False):
            super().reset()
        self._next_index = 0

    def update(self, x: Tensor, index: Tensor | None = None) -> None:
        """Add samples.

        Args:
            x: (B, ...) in stored form or, for images, floating point in [-1, 1].
            index: (B,) int64 positions in the set; counted up from what was seen unless given. With several processes
                give it.
        """
        self._accumulate(self.extractor(x), index)

    def update_features(self, features: Features, index: Tensor | None = None) -> None:
        """Add samples by their features; `index` as in `update`."""
        self._computed = None
        self._update_count += 1
        self._accumulate(features, index)

    def compute(self) -> Tensor:
        """The value, a float64 scalar.

        Raises:
            UserError: if another number of samples was seen than announced, or a reference is missing.
        """
        return self.checked_values()[self.name]

    def checked_values(self) -> dict[str, Tensor]:
        """`compute_all()`, after making sure that the set is complete."""
        seen = int(self.num_seen)
        if self.num_samples is not None and seen != self.num_samples:
            raise UserError(f"{self.name} was told of {self.num_samples} samples and saw {seen}")
        if self.num_samples is None:
            self.check(seen)
        return self.compute_all()

    def protocol(self) -> dict[str, Any]:
        """What makes two values comparable; JSON-able."""
        return {"metric": self.prefix, "extractor": self.extractor.protocol(), "num_samples": self.num_samples}

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """As `update`: a metric of a set has no value for one batch."""
        self.update(*args, **kwargs)

    def add_sum(self, name: str, *shape: int) -> None:
        """Declare a float64 state that starts at 0 and is summed over processes."""
        self.add_state(name, torch.zeros(shape, dtype=torch.float64, device="cpu"), dist_reduce_fx="sum")

    def _accumulate(self, features: Features, index: Tensor | None) -> None:
        count = len(features.pooled)
        if index is None:
            index = torch.arange(self._next_index, self._next_index + count)
        self._next_index += count
        if count == 0:
            return
        device = self.num_seen.device
        pooled, logits = (
            None if v is None else v.detach().to(device).double() for v in (features.pooled, features.logits)
        )
        assert pooled is not None
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            self.num_seen += count
            self.accumulate(Features(pooled, logits), index.cpu())

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        # follow to another device, but not to another dtype: `.to(torch.bfloat16)` of a model reaches its metrics
        device = fn(torch.zeros((), device=self.extractor.device)).device
        self.extractor.to(device)
        # MPS has no float64
        home = torch.device("cpu") if device.type == "mps" else device
        super()._apply(lambda tensor: tensor.to(home), exclude_state)
        return self
