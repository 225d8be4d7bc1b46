"""Learnt priors of images, as bijections to standard normal numbers."""

from torch import Tensor

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.image.shapes import image_shape
from lightning_gen.distributions.base import Parameters


class ChannelPrior(Bijection):
    """z = (x + t(h)) · exp(s(h)), one t and one s a channel: x is N(−t, exp(−2s)) where z is standard normal.

    The learnt prior of the topmost level of Glow (Kingma, Dhariwal, NeurIPS 2018), which depends on the class where
    there is one (§6.2's class-conditional models). It is the identity at first.

    Args:
        sample_shape: (C, H, W).
        num_features: length F of features h that t and s are linear in; None for learnt ones.

    Raises:
        UserError: if samples are no images.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__(sample_shape, num_features)
        channels, height, width = image_shape(self, sample_shape)
        self.pixels = height * width
        self.parameters_of = Parameters(num_features, 2, channels, scale=0.0)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise z (B, C, H, W), and Σ s over all entries."""
        t, s = self._numbers(x, h)
        return (x + t[..., None, None]) * s.exp()[..., None, None], self.pixels * s.sum(1)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples x (B, C, H, W), and −Σ s."""
        t, s = self._numbers(z, h)
        return z * (-s).exp()[..., None, None] - t[..., None, None], -self.pixels * s.sum(1)

    def _numbers(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Both t and s, (B, C)."""
        numbers = self.parameters_of(h)
        t, s = numbers.expand(len(x), *numbers.shape[-2:]).unbind(1)
        return t, s
