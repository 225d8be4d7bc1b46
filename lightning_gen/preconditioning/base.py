"""What a preconditioning is."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor


class Scales(NamedTuple):
    """The three factors of D(x; t) = skip · x + out · F(inside · x; t), each of the shape of α and σ.

    c_skip, c_out and c_in of Karras et al., NeurIPS 2022, arXiv:2206.00364, eq. 7.
    """

    skip: Tensor
    out: Tensor
    inside: Tensor


class Preconditioning(ABC):
    """What a network F says about a noisy sample x = α x_0 + σ ε, which makes it a denoiser D(x; t) ≈ E[x_0 | x].

    Every one works with any schedule. Where α² + σ² is not 1, formulae of the literature on schedules for which it is
    are meant of x / √(α² + σ²), which is a noisy sample of one.

    Attributes:
        needs_signal: whether D cannot be had from F where α is 0.
    """

    needs_signal: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, alpha: Tensor, sigma: Tensor) -> Scales:
        """The factors at α and σ, tensors of any shape."""

    @abstractmethod
    def target(self, x: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What F is to say for the sample x = x_0 and its noise ε: (x_0 − skip · x_t) / out, without cancellation.

        Args:
            x: (B, …) samples.
            epsilon: (B, …) their noise.
            alpha: α, of a shape that broadcasts.
            sigma: σ, likewise.

        Returns:
            (B, …).
        """
