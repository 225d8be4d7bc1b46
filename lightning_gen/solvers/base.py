"""What a solver of ordinary differential equations is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from lightning_gen.samplers import Sampler

Velocity = Callable[[Tensor, Tensor], Tensor]
"""v(x, t), (n, …), of x (n, …) and times t (n,), which may differ between samples."""

Norm = Callable[[Tensor], Tensor]
"""(n,) sizes of (n, …) errors, each in units of what is tolerated."""


class ODESolver(Sampler, ABC):
    """Follows dx/dt = v(x, t) from one time to another, each sample as if it were alone."""

    @property
    @abstractmethod
    def num_evaluations(self) -> int | None:
        """How often v is evaluated; None where that depends on v."""

    @abstractmethod
    def __call__(self, velocity: Velocity, x: Tensor, start: float, end: float, norm: Norm | None = None) -> Tensor:
        """The x at `end` that is `x` at `start`.

        Args:
            velocity: v.
            x: (n, …) floating point, whose type the computation has.
            start: time.
            end: time, before or after `start`.
            norm: of the errors of steps that are chosen by them; the root of their mean square unless given.

        Returns:
            (n, …).

        Raises:
            UserError: if a tolerance cannot be met.
        """


def described(part: object) -> str:
    """A part as one would write it, such as `RK4(steps=20)`: its class and its plain values."""
    plain = {name: value for name, value in vars(part).items() if isinstance(value, int | float | str)}
    return f"{type(part).__name__}({', '.join(f'{name}={value}' for name, value in plain.items())})"


def root_mean_square(error: Tensor) -> Tensor:
    """(n,) of (n, …)."""
    return error.flatten(1).square().mean(1).sqrt()


class Counted:
    """A velocity that counts how often it is evaluated.

    Args:
        velocity: v.
    """

    def __init__(self, velocity: Velocity) -> None:
        self.velocity, self.evaluations = velocity, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """As v."""
        self.evaluations += 1
        return self.velocity(x, t)
