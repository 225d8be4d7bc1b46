"""Autoregressive flows: each entry is transformed given those before it, and one direction is the fast one.

    z_i = τ(x_i; θ_i(x_{<i}, h))

The Jacobian is triangular. One pass of the networks leads from x to z; the way back takes as many steps as there are
entries, since x_i is needed for θ_{i+1}.
"""

from abc import ABC
from collections.abc import Sequence

from torch import Tensor

from lightning_gen.bijections.chain import Chain
from lightning_gen.bijections.flat import FlatBijection, check_network
from lightning_gen.bijections.masked import MaskedLayer, SingleLayer
from lightning_gen.bijections.orders import alternating_orders, random_orders
from lightning_gen.bijections.spline import Spline
from lightning_gen.bijections.univariate import Affine, Univariate


class _Autoregressive(FlatBijection, ABC):
    """Layers of masked networks in alternating, or random, order."""

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None,
        transforms: int,
        hidden_features: Sequence[int],
        permutation_seed: int | None,
        univariate: Univariate,
    ) -> None:
        super().__init__(sample_shape, num_features)
        check_network(self, transforms, hidden_features)
        if self.dim == 1 and num_features is None:
            self.layers = Chain([SingleLayer(univariate) for _ in range(transforms)])
            return
        orders = (
            alternating_orders(self.dim, transforms)
            if permutation_seed is None
            else random_orders(self.dim, transforms, permutation_seed)
        )
        self.layers = Chain([MaskedLayer(places, num_features, univariate, hidden_features) for places in orders])

    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """One pass of each network."""
        return self.layers(x, h)

    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Entry by entry."""
        return self.layers.inverse(z, h)


class MAF(_Autoregressive):
    """A masked autoregressive flow (Papamakarios, Pavlakou, Murray, NeurIPS 2017, arXiv:1705.07057, eqs. 3–4).

        z_i = e^{s(x_{<i})} x_i + b(x_{<i})

    Densities take one pass of each network (Germain et al., "MADE", ICML 2015), samples as many steps as there are
    entries, which together cost about one pass. The flow starts nearly as the identity. There is no batch norm.

    Args:
        sample_shape: of x without the batch.
        num_features: length of the features; None for none.
        transforms: how many, ≥ 1; every second one in reversed order.
        hidden_features: widths of the hidden layers of each network.
        permutation_seed: orders are drawn with it; None for alternating ones.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        transforms: int = 5,
        hidden_features: tuple[int, ...] = (64, 64),
        permutation_seed: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_features, transforms, hidden_features, permutation_seed, Affine())


class IAF(MAF):
    """An inverse autoregressive flow (Kingma et al., NeurIPS 2016, arXiv:1606.04934, eqs. 9–10).

        x_i = e^{s(z_{<i})} z_i + b(z_{<i})

    Samples and their densities take one pass of each network, densities of given values as many steps as there are
    entries: right for what is sampled in training, such as posteriors and dequantisation; `MAF` for data. Arguments as
    there. Scales are exponentials, where the paper has sigmoids (eq. 14).
    """

    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Entry by entry."""
        return self.layers.inverse(x, h)

    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """One pass of each network."""
        return self.layers(z, h)


class AutoregressiveSpline(_Autoregressive):
    """Rational quadratic splines of each entry given those before it (Durkan et al., NeurIPS 2019, arXiv:1906.04032).

    The flow starts nearly as the identity. The linear layers that the paper has between transforms are left out.

    Args:
        sample_shape: of x without the batch.
        num_features: length of the features; None for none.
        transforms: how many, ≥ 1; every second one in reversed order.
        hidden_features: widths of the hidden layers of each network.
        bins: K of a spline, ≥ 2.
        bound: B > 0: outside [−B, B] a spline is the identity.
        permutation_seed: orders are drawn with it; None for alternating ones.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        transforms: int = 5,
        hidden_features: tuple[int, ...] = (64, 64),
        bins: int = 8,
        bound: float = 5.0,
        permutation_seed: int | None = None,
    ) -> None:
        univariate = Spline(self, bins, bound)
        super().__init__(sample_shape, num_features, transforms, hidden_features, permutation_seed, univariate)
