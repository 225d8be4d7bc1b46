"""What a density is, and what one is whose parameters follow from sums over samples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods.base import seen
from lightning_gen.losses.likelihoods.levels import Levels
from lightning_gen.noise import Noise


class Density(nn.Module, ABC):
    """A distribution p(x | y) of samples of a given shape, one for each class.

    A family makes it from a factory, `Callable[[tuple[int, ...], int | None], Density]`, called with the two arguments
    below.

    Args:
        sample_shape: of one sample, such as (2,) or (1, 8, 8); D entries.
        num_classes: C, how many distributions there are; None for one of all samples.
    """

    gives_probabilities: ClassVar[bool] = False
    """Whether it is of discrete values."""

    gradient_fault: ClassVar[str | None] = None
    """Why gradients cannot estimate it, to end "cannot be estimated by gradients: …"; None where they can."""

    start_rows: int = 0
    """How many training samples `start` is to be given; 0 where it need not be called."""

    def __init__(self, sample_shape: Sequence[int], num_classes: int | None = None) -> None:
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.num_classes = num_classes

    @property
    def dim(self) -> int:
        """D."""
        return math.prod(self.sample_shape)

    @property
    def num_tables(self) -> int:
        """C, or 1 without classes."""
        return self.num_classes or 1

    @abstractmethod
    def log_prob(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | y).

        Args:
            x: (B, …) samples in model form, or the continuous values that dequantisation makes of them.
            y: (B,) int64 classes; None without classes.

        Returns:
            (B,) nats: of probabilities if `gives_probabilities`, else of a density with respect to x.
        """

    @abstractmethod
    def draw(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws, one a stream: (n, …) in the form that `log_prob` takes."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise `UserError` if samples (n, …) of the data show that they do not fit."""

    def start(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> None:
        """Leave the parameters where estimation is to begin; called once, before it, if `start_rows` is above 0.

        Args:
            x: (N, …) training samples, drawn without replacement, in the form that `log_prob` takes.
            y: (N,) int64 classes, or None.
            generator: seeded by the run, and equal on all processes; of the CPU.
        """

    def table_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B,) int64: the classes of samples (B, …), zeros without classes."""
        return torch.zeros(len(x), dtype=torch.int64, device=x.device) if y is None else y


class AccumulatingDensity(Density, ABC):
    """A density whose best parameters, or parameters better than the present ones, follow from sums over samples."""

    @abstractmethod
    def statistics(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """The E step.

        Args:
            x: (B, …) as in `log_prob`; B may be 0.
            y: likewise.

        Returns:
            log p(x | y) (B,), as in `log_prob`, and sums over the B samples, of shapes that do not depend on B.
        """

    @abstractmethod
    def maximise(self, sums: list[Tensor]) -> None:
        """The M step: take the parameters that follow from sums over all samples, without a word to the host.

        Args:
            sums: as `statistics` gives them, with the parameters as they are, added up.
        """


def wide(x: Tensor) -> Tensor:
    """`x` in float64; in float32 on Metal, which has no more."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)


def check_finite(density: Density, x: Tensor) -> None:
    """Raise `UserError` if data hold NaN or infinite values."""
    if not bool(x.isfinite().all()):
        raise UserError(f"the density {type(density).__name__} needs finite numbers, but data has {seen(x)}")


def density_levels(density: Density, count: int) -> Levels:
    """The levels of a density, for whose messages it is named."""
    name = type(density).__name__
    remedy = "set its levels to those of data, such as 17 of Digits at 8×8, and 256 of images stored as bytes"
    return Levels(count, name, f"the density {name}", remedy)
