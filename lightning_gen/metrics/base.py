"""What every metric of generated samples keeps: the same value for any batch size and number of processes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_gen.errors import UserError
from lightning_gen.metrics.classes import without_attributes
from lightning_gen.metrics.distributed import all_reduced, is_distributed
from lightning_gen.metrics.extractors import CHUNK, FeatureExtractor, Features, require_finite
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.reference import reference_statistics


class GenerativeMetric(Metric, ABC):
    """A number about a set of generated samples.

    `begin(num_samples)`, then `update(x)` or, where several metrics share an extractor, `update_features(features)`,
    then `compute()`. States are summed over processes. The extractor is not a submodule, so it enters no checkpoint,
    but it follows `.to(device)`.

    A subclass sets `prefix`, `higher_is_better` and `needs`, declares its states, and writes `accumulate` and
    `compute_all`. `SumMetric` and `RowMetric` do the latter two for most.

    Args:
        extractor: what describes the samples.
    """

    prefix: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    """What it uses of the reference: any of "moments", "spatial", "features"; nothing for a metric without one."""
    is_differentiable = False
    full_state_update = False
    extractor: FeatureExtractor
    num_seen: Tensor

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(dist_sync_fn=all_reduced)
        # past nn.Module's __setattr__, which would register it and so save its weights in every checkpoint
        object.__setattr__(self, "extractor", extractor)
        self.num_samples: int | None = None
        self.reference: ReferenceStatistics | None = None
        self._next_index = 0
        self._waiting: list[tuple[Features, Tensor]] = []
        self._released = True
        self.add_sum("num_seen")

    @property
    def name(self) -> str:
        """The metric's name with its extractor, such as `fid_digits`."""
        return f"{self.prefix}_{self.extractor.name}"

    @property
    def directions(self) -> dict[str, bool | None]:
        """For values that differ in it, whether a higher one is better (None: neither is); else `higher_is_better`."""
        return {}

    @abstractmethod
    def accumulate(self, features: Features, index: Tensor) -> None:
        """Add features of the samples `index`, (B,) int64 on the CPU, B ≥ 1, to the states."""

    @abstractmethod
    def compute_all(self) -> dict[str, Tensor]:
        """Float64 scalars from the states as they are, without communication: `name` first, then what belongs to it."""

    def sampler(self, model: Any) -> Callable[[Tensor], Any] | None:
        """What to draw from a model in place of its samples, see `engine.Sampler`; None for samples.

        Args:
            model: what is measured.

        Raises:
            UserError: if the model lacks an ability that the metric needs.
        """
        return None

    def details(self) -> dict[str, Any]:
        """What the last values have to say beside numbers; JSON-able."""
        return {}

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
        """Measure the data, or find them in the cache, where the metric needs a reference.

        Args:
            data: a source of rows, see `reference.ReferenceData`.
            options: keyword arguments of `reference.reference_statistics`.
        """
        if self.needs:
            self.set_reference(reference_statistics(self.extractor, data, **({"needs": self.needs} | options)))

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; samples seen so far are forgotten.

        Raises:
            UserError: if it was made by another extractor, of fewer than 2 samples, or lacks what is needed.
        """
        reference.check(self.name, self.extractor)
        for need, part in (("features", reference.features), ("spatial", reference.spatial)):
            if need in self.needs and part is None:
                raise UserError(
                    f"the reference of {self.name} was made without {need}, which it needs: make it from the data"
                )
        self.reset()
        self.reference = reference

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
        self._waiting = []
        self._released = False

    def release(self) -> None:
        """Forget the samples and give back the memory of the states, which the next sample takes again."""
        self.reset()
        for name, initial in self._defaults.items():
            setattr(self, name, initial)
        self._released = True

    def update(self, x: Tensor, index: Tensor | None = None) -> None:
        """Add samples.

        Args:
            x: (B, ...) in stored form or, for images, floating point in [-1, 1].
            index: (B,) int64 positions in the set; counted up from what was seen unless given. With several processes
                give it.
        """
        self._wait(self.extractor(x), index)

    def update_features(self, features: Features, index: Tensor | None = None) -> None:
        """Add samples by their features; `index` as in `update`."""
        self._computed = None
        self._update_count += 1
        self._wait(features, index)

    def compute(self) -> Tensor:
        """The value, a float64 scalar.

        Raises:
            UserError: if another number of samples was seen than announced, or a reference is missing.
        """
        return self.checked_values()[self.name]

    def checked_values(self) -> dict[str, Tensor]:
        """`compute_all()`, after making sure that the set is complete."""
        self.flush()
        seen = int(self.num_seen)
        if self.num_samples is not None and seen != self.num_samples:
            raise UserError(f"{self.name} was told of {self.num_samples} samples and saw {seen}")
        if self.num_samples is None:
            self.check(seen)
        return self.compute_all()

    def require_ready(self) -> None:
        """Raise `UserError` if samples cannot be added yet."""
        self.require_reference()

    def require_reference(self) -> None:
        """Raise `UserError` if a reference is needed and there is none."""
        if self.needs and self.reference is None:
            raise UserError(f"{self.name} has no reference: call fit_reference or set_reference first")

    def data_statistics(self) -> ReferenceStatistics:
        """The reference, on the device of the states.

        Raises:
            UserError: if there is none.
        """
        self.require_reference()
        assert self.reference is not None
        self.reference = self.reference.to(self.num_seen.device)
        return self.reference

    def protocol(self) -> dict[str, Any]:
        """What makes two values comparable; JSON-able."""
        found = {
            "metric": self.prefix,
            "extractor": self.extractor.protocol(),
            "num_samples": self.num_samples,
            "higher_is_better": self.higher_is_better,
        }
        if self.reference is not None:
            reference = {**self.reference.protocol, "num": self.reference.n}
            reference.pop("extractor", None)
            found["reference"] = reference
        return found

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """As `update`: a metric of a set has no value for one batch."""
        self.update(*args, **kwargs)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Sum the states over processes, with everything in them."""
        self.flush()
        super().sync(*args, **kwargs)

    def flush(self) -> None:
        """Put what still waits into the states.

        Raises:
            UserError: if features are not finite.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        index = torch.cat([index for _, index in waiting])
        device = self.num_seen.device
        parts = {field.name: [getattr(features, field.name) for features, _ in waiting] for field in fields(Features)}
        features = Features(
            **{name: torch.cat(part).detach().to(device) for name, part in parts.items() if part[0] is not None}
        )
        require_finite(features, index, self.extractor.name)
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            self.num_seen += len(index)
            self.accumulate(features, index)

    def add_sum(self, name: str, *shape: int) -> None:
        """Declare a float64 state that starts at 0 and is summed over processes."""
        self.add_state(name, torch.zeros(shape, dtype=torch.float64, device="cpu"), dist_reduce_fx="sum")
        self.start_from_zeros(name, *shape)

    def start_from_zeros(self, name: str, *shape: int) -> None:
        """Let `reset` set a state to zeros of `shape`."""
        # one number seen as many: states, and the initial ones that torchmetrics keeps, take no memory until used
        self._defaults[name] = getattr(self, name).new_zeros(()).expand(shape)
        if self._released:
            setattr(self, name, self._defaults[name])

    def _wait(self, features: Features, index: Tensor | None) -> None:
        self.require_ready()
        if self._released:
            updates = self._update_count
            self.reset()
            self._update_count = updates
        count = len(features.pooled)
        if index is None:
            if is_distributed():
                raise UserError(f"{self.name} needs the index of every sample where there are several processes")
            index = torch.arange(self._next_index, self._next_index + count)
        self._next_index += count
        if count == 0:
            return
        self._waiting.append((without_attributes(features), index.cpu()))
        if sum(len(index) for _, index in self._waiting) >= CHUNK:
            self.flush()

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Self:
        # follow to another device, but not to another dtype: `.to(torch.bfloat16)` of a model reaches its metrics
        device = fn(torch.zeros((), device=self.extractor.device)).device
        self.extractor.to(device)
        # MPS has no float64
        home = torch.device("cpu") if device.type == "mps" else device
        super()._apply(lambda tensor: _moved(tensor, home), exclude_state)
        return self


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on `device`; one number seen as many stays one number."""
    if tensor.ndim and not any(tensor.stride()):
        return tensor.as_strided((), ()).to(device).expand(tensor.shape)
    return tensor.to(device)
