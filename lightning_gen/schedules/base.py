"""What a noise schedule is."""

from abc import ABC, abstractmethod

from torch import Tensor


class NoiseSchedule(ABC):
    """How much is left of a sample, and how much noise there is, at each time: x_t = α(t) x_0 + σ(t) ε, ε ~ N(0, I).

    σ/α grows with t. A schedule holds no tensors that are trained or saved, and computes where its arguments are.

    Attributes:
        num_steps: T of a discrete schedule, whose steps 1 … T are the times 1/T … 1; None for a continuous one.
        first: the time of least noise that networks are trained at.
        last: that of most noise, from which samples start as N(0, σ² I).
    """

    num_steps: int | None = None
    first: float
    last: float

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α(t) and σ(t), each of the shape of times t."""

    @abstractmethod
    def time_of(self, ratio: Tensor) -> Tensor:
        """The times, in [first, last], at which σ/α is a ratio, or as near to it as it can be."""

    @abstractmethod
    def spread(self, u: Tensor) -> Tensor:
        """Map numbers of [0, 1] to times, 0 to `first`, 1 to `last`: uniform ones to how training draws times."""

    def label(self, t: Tensor) -> Tensor:
        """What networks are told of times: numbers of order 1, the times themselves unless a schedule says else."""
        return t

    def log_snr(self, t: Tensor) -> Tensor:
        """log(α²/σ²), which falls with t."""
        alpha, sigma = self(t)
        return 2 * (alpha.log() - sigma.log())
