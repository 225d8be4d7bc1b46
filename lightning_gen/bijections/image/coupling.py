"""Couplings of images: one part is changed, entry by entry, by functions whose parameters the other part gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.image.elementwise import Elementwise, SigmoidAffine, TanhAffine
from lightning_gen.bijections.image.networks import CouplingNetwork, ResidualNetwork, ThreeLayerNetwork
from lightning_gen.bijections.image.shapes import image_shape
from lightning_gen.errors import UserError
from lightning_gen.precision import full

NetworkFactory = Callable[[int, int, int | None], CouplingNetwork]
"""Called with the channels of what is kept, the number of parameters a pixel, and the length of the features."""

_Run = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Coupling(Bijection, ABC):
    """z_kept = x_kept, z_changed = g(x_changed; θ(x_kept, h)) (Dinh et al., "Real NVP", ICLR 2017, eqs. 4–9).

    The Jacobian is triangular; the logarithm of its determinant is the sum of those of g's derivatives.
    """

    transform: Elementwise

    @abstractmethod
    def run(self, transform: _Run, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """What a function of entries and parameters makes of (B, C, H, W) and (B, F), and its log-determinants (B,)."""

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise z (B, C, H, W), and log |det ∂z/∂x|, (B,)."""
        return self.run(self.transform.forward, full(x), h)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Samples x (B, C, H, W), and log |det ∂x/∂z|, (B,)."""
        return self.run(self.transform.inverse, full(z), h)


class ChannelCoupling(Coupling):
    """Half of the channels is kept, the other half changed (Dinh et al., ICLR 2017, §3.4, figure 3, right).

    Args:
        sample_shape: (C, H, W) of at least two channels; of an odd number the first half is the smaller one.
        num_features: length F of features of a condition, which the network sees; None for none.
        network: makes the network of θ.
        transform: makes g for so many channels.
        flipped: the first half is changed in place of the second.

    Raises:
        UserError: if there is one channel only, or samples are no images.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        network: NetworkFactory = ThreeLayerNetwork,
        transform: Callable[[int], Elementwise] = SigmoidAffine,
        flipped: bool = False,
    ) -> None:
        super().__init__(sample_shape, num_features)
        channels, _, _ = image_shape(self, sample_shape)
        if channels < 2:
            raise UserError(
                "ChannelCoupling needs at least two channels and was given one: squeeze grey images first, or use"
                " CheckerboardCoupling"
            )
        self.sizes, self.flipped = (channels // 2, channels - channels // 2), flipped
        kept, changed = reversed(self.sizes) if flipped else self.sizes
        self.transform = transform(changed)
        self.network = network(kept, self.transform.num_parameters, num_features)

    def run(self, transform: _Run, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Coupling`."""
        first, second = x.split(self.sizes, dim=1)
        kept, changed = (second, first) if self.flipped else (first, second)
        changed, log_derivatives = transform(changed, full(self.network(kept, h)))
        parts = (changed, kept) if self.flipped else (kept, changed)
        return torch.cat(parts, dim=1), log_derivatives.flatten(1).sum(1)


class CheckerboardCoupling(Coupling):
    """Pixels of one colour of a chessboard are kept, the others changed (Dinh et al., ICLR 2017, §3.4, figure 3, left).

    The network sees what is kept with 0 in the place of the others, and where that is.

    Args:
        sample_shape: (C, H, W).
        num_features: length F of features of a condition, which the network sees; None for none.
        network: makes the network of θ.
        transform: makes g for so many channels.
        flipped: the pixel in the corner is changed in place of kept.

    Raises:
        UserError: if samples are no images, or of one pixel.
    """

    mask: Tensor

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        network: NetworkFactory = ResidualNetwork,
        transform: Callable[[int], Elementwise] = TanhAffine,
        flipped: bool = False,
    ) -> None:
        super().__init__(sample_shape, num_features)
        channels, height, width = image_shape(self, sample_shape)
        if height * width < 2:
            raise UserError("CheckerboardCoupling needs images of more than one pixel")
        mask = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == int(flipped)
        self.register_buffer("mask", mask[None, None], persistent=False)
        self.transform = transform(channels)
        self.network = network(channels + 1, self.transform.num_parameters, num_features)

    def run(self, transform: _Run, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """See `Coupling`."""
        kept = torch.cat((x * self.mask, self.mask.to(x.dtype).expand(len(x), -1, -1, -1)), dim=1)
        changed, log_derivatives = transform(x, full(self.network(kept, h)))
        z = torch.where(self.mask, x, changed)
        return z, log_derivatives.masked_fill(self.mask, 0.0).flatten(1).sum(1)
