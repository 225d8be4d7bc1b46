"""Normalising flows, as posterior and as prior."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution

from lightning_gen.bijections.orders import alternating_orders
from lightning_gen.bijections.zuko_import import zuko
from lightning_gen.distributions.base import VariationalLayer
from lightning_gen.distributions.normal import DiagonalNormal, StandardNormal
from lightning_gen.distributions.seeded import draw
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.noise import Noise
from lightning_gen.precision import exact, full

if TYPE_CHECKING:
    from zuko.lazy import LazyTransform


class Flow(Distribution):
    """The distribution of f⁻¹(ε), ε from a base: log p(z) = log p(ε) + log |det ∂f/∂z| at ε = f(z).

    The log-density of the samples that were drawn last is known already: asked for that very tensor, no inverse has
    to be found. (As a function of the parameters it is the same; its derivative with respect to z alone is that of
    another tensor or distribution.)

    Args:
        transform: f, of zuko, from values to noise.
        base: of the noise, of batch shape (B,) or () and event shape (d,).
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)
    has_rsample = True

    def __init__(self, transform: Any, base: Distribution) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.transform = transform
        self.base = base
        self._last: tuple[Tensor, Tensor, bool] | None = None

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Flow":
        """The same, of a larger batch."""
        return Flow(self.transform, self.base.expand(torch.Size(batch_shape)))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """(…, d), with a gradient."""
        return self.generated(self.base.rsample(Size(sample_shape)))

    def generated(self, epsilon: Tensor) -> Tensor:
        """The samples (…, d) that noise (…, d) becomes."""
        with exact(epsilon):
            if not epsilon.numel():  # torch cannot sum the densities of no samples
                return self.transform.inv(epsilon)
            z, log_det = self.transform.inv.call_and_ladj(epsilon)
            self._last = z, self.base.log_prob(epsilon) - log_det, torch.is_grad_enabled()
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of (…, d) values."""
        if self._last is not None and value is self._last[0] and self._last[2] == torch.is_grad_enabled():
            return self._last[1]
        with exact(value):
            epsilon, log_det = self.transform.call_and_ladj(full(value))
            return self.base.log_prob(epsilon) + log_det

    @property
    def centre(self) -> Tensor:
        """What the base's mean becomes."""
        return self.generated(self.base.mean)


@draw.register
def _(distribution: Flow, noise: Noise, num: int) -> Tensor:
    return distribution.generated(draw(distribution.base, noise, num))


class _AffineFlow(VariationalLayer, ABC):
    """Affine transforms whose coefficients are functions of the coordinates before, in alternating order.

    Each has scales between 10⁻³ and 10³ (zuko's). Features enter every transform beside the coordinates.
    """

    def __init__(self, latent_dim: int, num_features: int | None, transforms: int, hidden_features: list[int]) -> None:
        super().__init__(latent_dim, num_features)
        check_at_least(self, 1, transforms=transforms)
        if not hidden_features or min(hidden_features) < 1:
            raise UserError(
                f"{type(self).__name__}.hidden_features is {hidden_features}: give the width of at least one layer"
            )
        self.base = self.make_base()
        self.transform = self.make_transform(transforms, list(hidden_features))

    def make_base(self) -> VariationalLayer:
        """Of the noise: standard normal unless overridden."""
        return StandardNormal(self.latent_dim)

    @abstractmethod
    def make_transform(self, transforms: int, hidden_features: list[int]) -> "LazyTransform":
        """From values to noise."""

    def autoregressive(self, transforms: int, hidden_features: list[int], passes: int) -> list["LazyTransform"]:
        """Transforms in alternating order, inverted by so many passes, which work on as many groups of coordinates."""
        masked = zuko().flows.autoregressive.MaskedAutoregressiveTransform
        context = self.num_features or 0
        return [
            masked(self.latent_dim, context, passes=passes, order=order, hidden_features=hidden_features)
            for order in alternating_orders(self.latent_dim, transforms)
        ]

    def forward(self, h: Tensor | None = None) -> Flow:
        """Of batch shape (B,), or ()."""
        h = None if h is None else full(h)
        base = self.base(h if self.base.num_features else None)
        if h is not None:
            base = base.expand(h.shape[:-1])
        with exact(next(self.parameters())):
            return Flow(self.transform(h), base)

    def mean(self, distribution: Distribution) -> Tensor:
        """The base's mean, through the flow: the mean of a flow has no closed form."""
        assert isinstance(distribution, Flow)
        return distribution.centre


class AutoregressiveFlow(_AffineFlow):
    """A masked autoregressive flow (MAF: Papamakarios et al., NeurIPS 2017), for priors.

        ε_i = α(z_{<i}) z_i + μ(z_{<i})

    Densities take one pass of each network, samples d.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for none.
        transforms: how many, ≥ 1.
        hidden_features: widths of the hidden layers of each network.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        transforms: int = 3,
        hidden_features: tuple[int, ...] = (64, 64),
    ) -> None:
        super().__init__(latent_dim, num_features, transforms, list(hidden_features))

    def make_transform(self, transforms: int, hidden_features: list[int]) -> "LazyTransform":
        """From values to noise in one pass."""
        return zuko().lazy.LazyComposedTransform(*self.autoregressive(transforms, hidden_features, self.latent_dim))


class RealNVPFlow(_AffineFlow):
    """A flow of affine coupling layers (RealNVP: Dinh et al., ICLR 2017, eqs. 7–8), for priors and posteriors.

    One half of the coordinates is scaled and shifted given the other half, then the other way round. Densities take
    one pass of each network, samples two. Beside the paper, the half that is given is scaled and shifted, too, by what
    does not depend on coordinates.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for none.
        transforms: how many, ≥ 1.
        hidden_features: widths of the hidden layers of each network.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        transforms: int = 6,
        hidden_features: tuple[int, ...] = (64, 64),
    ) -> None:
        super().__init__(latent_dim, num_features, transforms, list(hidden_features))

    def make_transform(self, transforms: int, hidden_features: list[int]) -> "LazyTransform":
        """From values to noise in one pass."""
        return zuko().lazy.LazyComposedTransform(*self.autoregressive(transforms, hidden_features, 2))


class InverseAutoregressiveFlow(_AffineFlow):
    """An inverse autoregressive flow (Kingma et al., NeurIPS 2016, eq. 10 and algorithm 1), for posteriors.

        z⁰ = μ(h) + σ(h) ε,    z^t_i = σ_t(z^{t−1}_{<i}, h) z^{t−1}_i + μ_t(z^{t−1}_{<i}, h)

    Samples and their own densities take one pass of each network; densities of other values d. Scales are exponentials,
    where the paper has sigmoids (eq. 14).

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features h; None for none.
        transforms: how many, ≥ 1.
        hidden_features: widths of the hidden layers of each network.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        transforms: int = 2,
        hidden_features: tuple[int, ...] = (64, 64),
    ) -> None:
        super().__init__(latent_dim, num_features, transforms, list(hidden_features))

    def make_base(self) -> VariationalLayer:
        """N(μ(h), diag σ(h)²)."""
        return DiagonalNormal(self.latent_dim, self.num_features)

    def make_transform(self, transforms: int, hidden_features: list[int]) -> "LazyTransform":
        """From values to noise the slow way: its inverse, from noise to values, takes one pass."""
        steps = self.autoregressive(transforms, hidden_features, self.latent_dim)
        return zuko().lazy.LazyComposedTransform(*(step.inv for step in reversed(steps)))
