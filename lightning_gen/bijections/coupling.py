"""Flows of coupling layers: half of a vector is transformed given the other half.

    z_a = x_a,    z_b = τ(x_b; θ(x_a, h))

The Jacobian is triangular and both directions take one pass of each network θ (Dinh, Krueger, Bengio, "NICE",
arXiv:1410.8516, §3.2).
"""

from abc import ABC
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.chain import Chain
from lightning_gen.bijections.flat import FlatBijection, check_network, start_small
from lightning_gen.bijections.orders import random_orders
from lightning_gen.bijections.spline import Spline
from lightning_gen.bijections.univariate import Additive, Affine, Univariate
from lightning_gen.bijections.zuko_import import zuko
from lightning_gen.errors import UserError

_Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class VectorCoupling(Bijection):
    """One layer, of vectors; nearly the identity at first.

    Args:
        given: (D,) bool, which entries are x_a.
        num_features: length of h, or None.
        univariate: τ.
        hidden_features: widths of the hidden layers of the network.
    """

    given: Tensor
    changed: Tensor
    back: Tensor

    def __init__(
        self, given: Tensor, num_features: int | None, univariate: Univariate, hidden_features: Sequence[int]
    ) -> None:
        super().__init__((len(given),), num_features)
        # as indices: a mask of bools would make the device wait
        self.register_buffer("given", given.nonzero()[:, 0])
        self.register_buffer("changed", (~given).nonzero()[:, 0])
        self.register_buffer("back", torch.cat((self.given, self.changed)).argsort())
        self.univariate = univariate
        inputs, outputs = len(self.given) + (num_features or 0), len(self.changed) * univariate.num_parameters
        self.network = zuko().nn.MLP(inputs, outputs, hidden_features)
        start_small(self.network[-1])

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From samples (B, D) to noise, and the log-determinant (B,)."""
        return self._run(self.univariate.forward, x, h)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From noise (B, D) to samples, and the log-determinant (B,)."""
        return self._run(self.univariate.inverse, z, h)

    def _run(self, function: _Function, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        kept = x[:, self.given]
        numbers = self.network(kept if h is None else torch.cat((kept, h), dim=1))
        changed, log_slopes = function(x[:, self.changed], numbers.unflatten(1, (len(self.changed), -1)))
        return torch.cat((kept, changed), dim=1)[:, self.back], log_slopes.sum(1)


class _CouplingFlow(FlatBijection, ABC):
    """Couplings in which the entries take turns: those of even places are given, then those of odd ones.

    With a seed the places are random ones, other ones for each pair of layers.
    """

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
        if self.dim < 2:
            raise UserError(
                f"{type(self).__name__} splits samples in two, but theirs of shape {list(sample_shape)} have one entry:"
                " use an autoregressive flow, such as MAF"
            )
        pairs = (transforms + 1) // 2
        places = (
            [torch.arange(self.dim)] * pairs
            if permutation_seed is None
            else random_orders(self.dim, pairs, permutation_seed)
        )
        given = [places[k // 2] % 2 == k % 2 for k in range(transforms)]
        self.layers = Chain([VectorCoupling(half, num_features, univariate, hidden_features) for half in given])

    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Layer by layer."""
        return self.layers(x, h)

    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """The layers backwards."""
        return self.layers.inverse(z, h)


class NICE(_CouplingFlow):
    """Additive couplings, and a scale of each entry at the end (Dinh, Krueger, Bengio, arXiv:1410.8516).

        z_b = x_b + m(x_a)  (eq. 10),  then  z = exp(s) ⊙ x  (§3.3)

    A sample's features enter each network m beside x_a. The flow starts nearly as the identity. The paper's prior is
    `StandardLogistic`.

    Args:
        sample_shape: of x without the batch; two entries at least.
        num_features: length of the features; None for none.
        transforms: number of couplings, ≥ 1; four in the paper.
        hidden_features: widths of the hidden layers of each network.
        permutation_seed: which entries are given is drawn with it; None for every other one.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        transforms: int = 4,
        hidden_features: tuple[int, ...] = (64, 64),
        permutation_seed: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_features, transforms, hidden_features, permutation_seed, Additive())
        self.log_scale = nn.Parameter(torch.zeros(self.dim))

    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Couplings, then the scale."""
        z, log_det = super().to_noise(x, h)
        return z * self.log_scale.exp(), log_det + self.log_scale.sum()

    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """The scale, then the couplings backwards."""
        x, log_det = super().to_sample(z * (-self.log_scale).exp(), h)
        return x, log_det - self.log_scale.sum()


class RealNVP(_CouplingFlow):
    """Affine couplings (Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", ICLR 2017, eqs. 7–8).

        z_b = x_b ⊙ exp(s(x_a)) + t(x_a)

    One network gives s and t of a layer; exp(s) is kept between 10⁻³ and 10³. The flow starts nearly as the identity.
    There is no batch norm.

    Args:
        sample_shape: of x without the batch; two entries at least.
        num_features: length of the features; None for none.
        transforms: number of couplings, ≥ 1.
        hidden_features: widths of the hidden layers of each network.
        permutation_seed: which entries are given is drawn with it; None for every other one.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        transforms: int = 6,
        hidden_features: tuple[int, ...] = (64, 64),
        permutation_seed: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_features, transforms, hidden_features, permutation_seed, Affine())


class NeuralSpline(_CouplingFlow):
    """Couplings by rational quadratic splines (Durkan et al., "Neural spline flows", NeurIPS 2019, arXiv:1906.04032).

    The flow starts nearly as the identity. The linear layers that the paper has between couplings are left out.

    Args:
        sample_shape: of x without the batch; two entries at least.
        num_features: length of the features; None for none.
        transforms: number of couplings, ≥ 1.
        hidden_features: widths of the hidden layers of each network.
        bins: K of a spline, ≥ 2.
        bound: B > 0: outside [−B, B] a spline is the identity.
        permutation_seed: which entries are given is drawn with it; None for every other one.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        transforms: int = 6,
        hidden_features: tuple[int, ...] = (64, 64),
        bins: int = 8,
        bound: float = 5.0,
        permutation_seed: int | None = None,
    ) -> None:
        univariate = Spline(self, bins, bound)
        super().__init__(sample_shape, num_features, transforms, hidden_features, permutation_seed, univariate)
