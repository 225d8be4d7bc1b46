"""The VampPrior: a prior made of the model's own posteriors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from lightning_gen.distributions.base import VariationalLayer, unconditional
from lightning_gen.distributions.mixture import Mixture, mixture
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least


class VampPrior(VariationalLayer):
    """p(z) = 1/K Σ_k q(z | u_k), with learnt pseudo-inputs u_k (Tomczak, Welling, AISTATS 2018, eq. 9).

    The pseudo-inputs are kept in the data's range by a hard tanh, as in the authors' code. There they start near one
    edge of it, all alike; here they start spread over the range, so that components differ. The encoder must work
    without a condition. The divergence from a mixture has no closed form: a bound needs `MonteCarlo` here.

    Args:
        latent_dim: number d of latent variables.
        num_features: None; it does not depend on features.
        sample_shape: of the data, such as [1, 28, 28], in model form: in [-1, 1].
        num_components: K, ≥ 1; every step encodes as many inputs more.
        start_mean: of the pseudo-inputs at first, a normal distribution.
        start_std: its standard deviation, ≥ 0.

    Raises:
        UserError: if a number is out of its range; before training, if the data have another shape or the encoder a
            condition.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        *,
        sample_shape: list[int],
        num_components: int = 500,
        start_mean: float = 0.0,
        start_std: float = 0.5,
    ) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        check_at_least(self, 1, num_components=num_components)
        check_at_least(self, 0, start_std=start_std)
        self.free_inputs = nn.Parameter(torch.empty(num_components, *sample_shape).normal_(start_mean, start_std))
        # a method of the model, not a module: the encoder is registered where it belongs, and copied along with it
        self._posterior_of: Callable[[Tensor], Distribution] | None = None

    @property
    def pseudo_inputs(self) -> Tensor:
        """u, (K, …) in [-1, 1]."""
        return nn.functional.hardtanh(self.free_inputs)

    def bind(self, posterior_of: Callable[[Tensor], Distribution]) -> None:
        """Know how pseudo-inputs become posteriors."""
        self._posterior_of = posterior_of

    def check_samples(self, sample_shape: tuple[int, ...]) -> None:
        """Pseudo-inputs must have the shape of the data."""
        own = tuple(self.free_inputs.shape[1:])
        if own != sample_shape:
            raise UserError(
                f"VampPrior.sample_shape is {list(own)} but data gives samples of shape {list(sample_shape)}: make"
                " them equal"
            )

    def forward(self, h: Tensor | None = None) -> Mixture:
        """Of batch shape ()."""
        if self._posterior_of is None:
            raise UserError("VampPrior is made of a model's posteriors, which this model does not have: use another")
        u = self.pseudo_inputs
        return mixture(u.new_zeros(len(u)), self._posterior_of(u))
