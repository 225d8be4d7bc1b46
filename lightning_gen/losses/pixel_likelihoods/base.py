"""What every likelihood of a pixel given the pixels before it keeps."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lightning_gen.losses.likelihoods.levels import Levels


class PixelLikelihood(nn.Module, ABC):
    """A distribution of a pixel's C channels, with L levels each, given the outputs of a network.

    A pixel is drawn in turns: all channels in one, or one channel in each of C, of which a later one may depend on
    those before it. In a turn the network gives P numbers.

    Args:
        levels: L values from −1 to 1, equally spaced: 256 for images stored as bytes, 17 in scikit-learn's digits.

    Raises:
        UserError: if there are fewer than two.

    Attributes:
        levels: how values become levels and back.
    """

    discrete = True
    """Nats are those of probabilities."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = Levels(levels, type(self).__name__)

    @abstractmethod
    def num_turns(self, channels: int) -> int:
        """T, 1 or C."""

    @abstractmethod
    def num_parameters(self, channels: int) -> int:
        """P."""

    @abstractmethod
    def num_uniforms(self, channels: int) -> int:
        """How many random numbers a turn takes."""

    @abstractmethod
    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """Log P(x), (N,) nats, from (N, P, T, H, W) parameters and (N, C, H, W) samples in model form."""

    @abstractmethod
    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """The channels of one turn of one pixel.

        Args:
            parameters: (N, P).
            uniform: (N, `num_uniforms`) in (0, 1).
            temperature: > 0; logits are divided by it, and scales multiplied.

        Returns:
            (N, C / T) values of levels.
        """

    def quantise(self, x: Tensor) -> Tensor:
        """The values of the levels that samples have: those rounded to bytes become exact, as drawn ones are."""
        return self.levels.value(self.levels.index(x))

    def check(self, x: Tensor) -> None:
        """Raise `UserError` if some samples (n, …) of the data have other levels."""
        self.levels.check(x)
