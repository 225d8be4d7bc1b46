"""Real NVP of images (Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017)."""

from collections.abc import Callable
from functools import partial
from typing import Any

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.compose import Compose
from lightning_gen.bijections.image.actnorm import ActNorm
from lightning_gen.bijections.image.coupling import ChannelCoupling, CheckerboardCoupling
from lightning_gen.bijections.image.elementwise import Elementwise, TanhAffine
from lightning_gen.bijections.image.multiscale import MultiScale, halved
from lightning_gen.bijections.image.networks import ResidualNetwork
from lightning_gen.bijections.image.shapes import check_halvings
from lightning_gen.bijections.image.squeeze import Squeeze
from lightning_gen.losses.arguments import check_at_least


class MultiScaleRealNVP(MultiScale):
    """Scales of couplings with masks that alternate (§3.6).

    Each scale but the last has three `CheckerboardCoupling`s, a `Squeeze` and three `ChannelCoupling`s, after which
    half of the channels leaves; the last has four `CheckerboardCoupling`s. Networks double their channels at each scale
    and at each squeeze, as in the authors' program. Every coupling is followed by an `ActNorm`, in place of the paper's
    batch norm: a likelihood that depended on the batch would be none.

    Args:
        sample_shape: (C, H, W), H and W multiples of 2^(scales − 1).
        num_features: length F of features of a condition, which the networks see; None for none.
        scales: ≥ 1; 2 is the paper's "downscale once".
        width: hidden channels of the first networks, ≥ 1.
        depth: residual blocks of a network, ≥ 0.
        transform: what couplings do to an entry: `TanhAffine`, or `Additive`, which takes fewer numbers.

    Raises:
        UserError: if images cannot be halved so often, or a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        scales: int = 2,
        width: int = 64,
        depth: int = 8,
        transform: Callable[[int], Elementwise] = TanhAffine,
    ) -> None:
        check_at_least(self, 1, scales=scales, width=width)
        check_halvings(self, "scales", scales, scales - 1, sample_shape)
        made = list[Bijection]()
        shape = tuple(sample_shape)
        for scale in range(scales):
            options: list[dict[str, Any]] = [
                {"network": partial(ResidualNetwork, width=width * 2**k, depth=depth), "transform": transform}
                for k in (scale, scale + 1)
            ]
            last = scale == scales - 1
            parts: list[Any] = []
            for k in range(4 if last else 3):
                parts += [partial(CheckerboardCoupling, flipped=k % 2 == 1, **options[0]), ActNorm]
            if not last:
                parts.append(Squeeze)
                for k in range(3):
                    parts += [partial(ChannelCoupling, flipped=k % 2 == 1, **options[1]), ActNorm]
            made.append(Compose(shape, num_features, parts))
            shape = halved(made[-1].latent_shape)
        super().__init__(sample_shape, num_features, made)
