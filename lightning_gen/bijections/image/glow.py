"""Glow (Kingma, Dhariwal, "Glow: Generative flow with invertible 1×1 convolutions", NeurIPS 2018)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.compose import Compose
from lightning_gen.bijections.image.actnorm import ActNorm
from lightning_gen.bijections.image.convolution import InvertibleConvolution
from lightning_gen.bijections.image.coupling import ChannelCoupling, NetworkFactory
from lightning_gen.bijections.image.elementwise import Elementwise, ExponentialAffine, SigmoidAffine
from lightning_gen.bijections.image.multiscale import MultiScale, halved
from lightning_gen.bijections.image.networks import ThreeLayerNetwork, ZeroConvolution
from lightning_gen.bijections.image.prior import ChannelPrior
from lightning_gen.bijections.image.shapes import check_halvings
from lightning_gen.bijections.image.squeeze import Squeeze
from lightning_gen.losses.arguments import check_at_least


class Glow(MultiScale):
    """L levels, each of which squeezes and then takes K steps (figure 2).

    A step is an `ActNorm`, an `InvertibleConvolution` and a `ChannelCoupling`. What leaves after a level has a normal
    prior whose mean and scale a convolution of what stays gives, and the last level's has one for each channel: both
    are part of the bijection, which ends in standard normal numbers. Features of a condition enter every coupling and
    every prior.

    Args:
        sample_shape: (C, H, W), H and W multiples of 2ᴸ.
        num_features: length F of features of a condition; None for none.
        levels: L ≥ 1.
        steps: K ≥ 1.
        network: makes the network of each coupling.
        transform: what couplings do to an entry: `SigmoidAffine`, or `Additive`, which takes fewer numbers.

    Raises:
        UserError: if images cannot be halved L times, or a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        levels: int = 3,
        steps: int = 32,
        network: NetworkFactory = ThreeLayerNetwork,
        transform: Callable[[int], Elementwise] = SigmoidAffine,
    ) -> None:
        check_at_least(self, 1, levels=levels, steps=steps)
        check_halvings(self, "levels", levels, levels, sample_shape)
        step: list[Any] = [
            ActNorm,
            InvertibleConvolution,
            partial(ChannelCoupling, network=network, transform=transform),
        ]
        # N(μ, σ²) of what leaves, given what stays: the coupling that brings it to N(0, 1)
        prior = partial(ChannelCoupling, network=ZeroConvolution, transform=ExponentialAffine)
        made = list[Bijection]()
        shape = tuple(sample_shape)
        for level in range(levels):
            last = ChannelPrior if level == levels - 1 else prior
            made.append(Compose(shape, num_features, [Squeeze, *step * steps, last]))
            shape = halved(made[-1].latent_shape)
        super().__init__(sample_shape, num_features, made)
