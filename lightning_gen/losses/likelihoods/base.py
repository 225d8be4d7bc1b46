"""What every likelihood p(x | z) keeps: nats a sample, and a range of data that it is made for."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise

_IMAGE_DIMS = 4


class Likelihood(nn.Module, ABC):
    """A distribution of samples whose entries are independent given the decoder's outputs.

    Samples are in model form: images in [-1, 1]. A decoder gives P numbers for each entry of a sample.

    Attributes:
        num_parameters: P.
    """

    num_parameters: int = 1

    discrete: ClassVar[bool] = False
    """Whether nats are those of probabilities, which alone can be told in bits an entry, instead of a density."""

    @abstractmethod
    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Log p(x | z), summed over entries.

        Args:
            parameters: (N, P, …) the decoder's outputs.
            x: (N, …) samples in model form.

        Returns:
            (N,) nats: of probabilities where the data are discrete, of densities with respect to x otherwise.
        """

    @abstractmethod
    def mean(self, parameters: Tensor) -> Tensor:
        """The expected sample, (N, …) in model form."""

    def expectation(self, parameters: Tensor) -> Tensor:
        """What losses compare with samples and discriminators judge in training: the mean before it is cut to a range.

        A mean that is clamped has no gradient where it was. (N, …), `mean` itself unless overridden.
        """
        return self.mean(parameters)

    @abstractmethod
    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """A sample with its noise, (N, …) in model form, one a stream."""

    @abstractmethod
    def check(self, x: Tensor) -> None:
        """Raise `UserError` if some samples (n, …) of the data show that they do not fit, saying what was seen."""


def of_samples(entries: Tensor) -> Tensor:
    """(N,) sums over the entries (N, …) of each sample."""
    return entries.flatten(1).sum(1)


def in_model_form(x: Tensor) -> Tensor:
    """Samples (N, …) of a likelihood whose range has no ends: images (N, C, H, W) are clamped to [-1, 1]."""
    return x.clamp(-1, 1) if x.dim() == _IMAGE_DIMS else x


def seen(x: Tensor) -> str:
    """What a message says of data."""
    finite = x[x.isfinite()]
    if len(finite) < x.numel():
        return f"{x.numel() - len(finite)} values that are NaN or infinite"
    return f"{len(x.unique())} values from {x.min():.4g} to {x.max():.4g}"


def check_finite(likelihood: Likelihood, x: Tensor) -> None:
    """Raise `UserError` if data hold NaN or infinite values."""
    if not bool(x.isfinite().all()):
        raise UserError(f"the likelihood {type(likelihood).__name__} needs finite numbers, but data has {seen(x)}")
