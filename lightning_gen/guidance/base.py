"""What a guidance is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

Field = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""What a sampler follows, of (x, t, y, dropped), see `networks.time_dependent.TimeNetwork`: a denoised sample, or a
velocity."""


class Guidance(ABC):
    """Changes what a sampler follows, so that samples show more of their condition."""

    @abstractmethod
    def __call__(self, field: Field, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The guided field.

        Args:
            field: the model's own, trained with and without conditions.
            x: (n, …) noisy samples.
            t: (n,) their times.
            y: (n,) classes, or (n, K) attributes.

        Returns:
            (n, …).
        """
