"""Distributions whose samples are functions of standard normal numbers, and layers that make them."""

from abc import ABC, abstractmethod

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, register_kl

from lightning_gen.distributions.base import Parameters, VariationalLayer
from lightning_gen.distributions.seeded import _shape, draw, normal
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class Pushforward(Distribution, ABC):
    """A distribution of z = T(ε), ε standard normal numbers, always as many; T is differentiable in the parameters.

    Parameters are the tensors that `arg_constraints` names; each has the batch shape in front of its own.
    """

    has_rsample = True
    loc: Tensor

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the numbers that one draw takes, beyond the batch; unless overridden, that of the event."""
        return tuple(self.event_shape)

    @abstractmethod
    def push(self, noise: Tensor) -> Tensor:
        """T: (…) + batch shape + noise shape to (…) + batch shape + event shape."""

    def rsample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """With a gradient that is right to first order for expectations of continuous functions."""
        shape = (*sample_shape, *self.batch_shape, *self.noise_shape)
        return self.push(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: object = None) -> "Pushforward":
        """The same distribution with a larger batch shape."""
        new = self._get_checked_instance(type(self), _instance)
        new.__dict__.update(self.__dict__)
        for name in self.arg_constraints:
            value = getattr(self, name)
            setattr(new, name, value.expand(*batch_shape, *value.shape[len(self.batch_shape) :]))
        new._batch_shape = Size(batch_shape)
        return new


@draw.register
def _(distribution: Pushforward, noise: Noise, num: int) -> Tensor:
    shape = _shape(distribution, noise)
    batch = shape[: len(shape) - len(distribution.event_shape)]
    return distribution.push(normal(noise, num, (*batch, *distribution.noise_shape), distribution.loc.dtype))


class ScaledLayer(VariationalLayer):
    """Makes distributions that have a location and one or several scales for each latent variable.

    All are linear in the features, the scales as the logarithms of their squares.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt parameters.
        min_log_variance: the logarithm of a squared scale is at least this.
        max_log_variance: and at most this.
    """

    num_scales = 1

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        min_log_variance: float = -20.0,
        max_log_variance: float = 20.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_above(self, min_log_variance, max_log_variance=max_log_variance)
        self.bounds = min_log_variance, max_log_variance
        self.parameters_of = Parameters(num_features, 1 + self.num_scales, latent_dim)

    def loc_and_scales(self, h: Tensor | None) -> list[Tensor]:
        """(B, d) each, or (d,)."""
        loc, *log_variances = full(self.parameters_of(h)).unbind(-2)
        return [loc, *(scale_of(log_variance, self.bounds) for log_variance in log_variances)]


def scale_of(log_variance: Tensor, bounds: tuple[float, float]) -> Tensor:
    """The standard deviation of a logarithm of a variance that is kept within bounds."""
    return (0.5 * log_variance.clamp(*bounds)).exp()


def refuse_divergence(kind: type[Distribution], why: str) -> None:
    """Let divergences of this kind of distribution from others, and of others from it, raise `UserError`.

    Made for kinds with which they are infinite, where an estimate would be a number without meaning. Pairs that are
    registered by themselves keep what they have.

    Args:
        kind: the class of distributions.
        why: what is so particular about it, such as "has an atom at 0".
    """

    def refuse(q: Distribution, p: Distribution) -> Tensor:
        names = [type(getattr(d, "base_dist", d)).__name__ for d in (q, p)]
        raise UserError(
            f"the KL divergence of a posterior {names[0]} from a prior {names[1]} is infinite, as {kind.__name__}"
            f" {why}: choose layers of the same kind for model.init_args.posterior and model.init_args.prior"
        )

    register_kl(kind, Distribution)(refuse)
    register_kl(Distribution, kind)(refuse)
