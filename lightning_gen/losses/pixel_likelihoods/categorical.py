"""A probability for every level of each channel, channel after channel."""

from torch import Tensor

from lightning_gen.choice import choose
from lightning_gen.losses.likelihoods.categorical import Categorical
from lightning_gen.losses.pixel_likelihoods.base import PixelLikelihood
from lightning_gen.precision import full


class CategoricalPixels(PixelLikelihood):
    """P(x | before) = P(x_R) P(x_G | x_R) P(x_B | x_R, x_G), a softmax of L logits each.

    (van den Oord et al., "Pixel Recurrent Neural Networks", ICML 2016, eq. 2 and §3.4.) There is a turn for each
    channel; levels do not know their order.

    Args:
        levels: L values from −1 to 1, equally spaced: 256 for images stored as bytes, 17 in scikit-learn's digits.

    Raises:
        UserError: if there are fewer than two.
    """

    def __init__(self, levels: int = 256) -> None:
        super().__init__(levels)
        self.categorical = Categorical(levels)

    def num_turns(self, channels: int) -> int:
        """C."""
        return channels

    def num_parameters(self, channels: int) -> int:
        """L logits."""
        return self.levels.count

    def num_uniforms(self, channels: int) -> int:
        """One."""
        return 1

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from (N, L, C, H, W) logits and (N, C, H, W) samples."""
        return self.categorical(parameters, x)

    def draw(self, parameters: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """(N, 1) values of levels."""
        logits = full(parameters).unsqueeze(2) / temperature
        return self.levels.value(choose(logits, uniform).to(logits))
