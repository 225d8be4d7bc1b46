"""What a bijection is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    """z = f(x; h), with its inverse and the logarithms of its Jacobian's determinant.

    A family makes the outermost one from a factory, `Callable[[tuple[int, ...], int | None], Bijection]`, called with
    the two arguments below.

    Args:
        sample_shape: of x without the batch, such as (2,) or (1, 8, 8).
        num_features: length F of features h of what samples are conditioned on; None for none.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.num_features = num_features

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Of z without the batch, of as many entries; that of x unless overridden."""
        return self.sample_shape

    @property
    def approximation(self) -> str | None:
        """By what it and its determinant are computed in evaluation, where that is not exact; None where it is."""
        return None

    @abstractmethod
    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From samples to noise.

        Args:
            x: (B, *sample_shape).
            h: (B, F), or None where `num_features` is None.

        Returns:
            z (B, *latent_shape), and log |det ∂z/∂x|, (B,) nats.
        """

    @abstractmethod
    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From noise to samples: x (B, *sample_shape), and log |det ∂x/∂z|, (B,) nats."""

    def samples(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """As `inverse`, without the log-determinants, which cost much in some."""
        return self.inverse(z, h)[0]

    def check(self, x: Tensor) -> None:
        """Raise `UserError` if samples (n, *sample_shape) of the data are outside what it maps; told before training.

        Most bijections map all numbers.
        """
