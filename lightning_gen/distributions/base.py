"""Variational layers: modules whose output is a distribution, for priors and posteriors alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from lightning_gen.errors import UserError
from lightning_gen.latents import slerp
from lightning_gen.precision import full


class VariationalLayer(nn.Module, ABC):
    """A distribution over latent vectors.

    As a *posterior* its parameters are linear in features h of the sample; as a *prior* they are learnt, or fixed, or
    linear in features of what the sample is conditioned on. A family makes layers from factories,
    `Callable[[int, int | None], VariationalLayer]`, called with the two arguments below; in YAML a class name, or a
    class path with further arguments.

    Args:
        latent_dim: number d of latent variables, ≥ 1.
        num_features: length F of the features that parameters are linear in; None for none.
    """

    log_prob_fault: ClassVar[str | None] = None
    """Why gradients through samples into log-probabilities are wrong, to end "log-probabilities of samples …"; None
    where they are right. Bounds that need them are refused with such a layer."""

    is_euclidean: ClassVar[bool] = True
    """Whether each number of a sample may be varied alone; not of one-hot vectors, nor of points on a sphere."""

    def __init__(self, latent_dim: int, num_features: int | None = None) -> None:
        super().__init__()
        if latent_dim < 1:
            raise UserError(f"latent_dim is {latent_dim}: it must be at least 1")
        self.latent_dim = latent_dim
        self.num_features = num_features

    @property
    def sample_dim(self) -> int:
        """Length of a sample as a vector: `latent_dim`, or more where a variable is a vector itself."""
        return self.latent_dim

    @property
    def decoded_dim(self) -> int:
        """How many of a sample's numbers, the first, the decoder sees: all, unless the others stand above them."""
        return self.sample_dim

    @abstractmethod
    def forward(self, h: Tensor | None = None) -> Distribution:
        """The distribution, of event shape (sample_dim,).

        Args:
            h: (B, F) features, or None where `num_features` is None.

        Returns:
            A distribution of batch shape (B,), or () without features.
        """

    def mean(self, distribution: Distribution) -> Tensor:
        """What stands for a distribution that `forward` gave, without noise: (…, sample_dim), by default its mean."""
        return distribution.mean

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Latents (n, sample_dim) on the way from `a` to `b`, at t (n,) of it: on a great circle unless overridden."""
        return slerp(a, b, t)

    def bind(self, posterior_of: Callable[[Tensor], Distribution]) -> None:
        """Told by the model, when it is made, how samples (n, …) become posteriors. Most layers need not know.

        Args:
            posterior_of: a method of the model, so that a copy of the model binds the copy of the layer to itself.
        """

    def check_prior(self, prior: Distribution) -> None:
        """Raise `UserError` if the divergence from a prior is infinite, and torch's `kl_divergence` does not say so.

        Told before training, of a posterior. Most layers know of no such prior.
        """

    def check_samples(self, sample_shape: tuple[int, ...]) -> None:
        """Raise `UserError` if samples of this shape do not fit; told before training. Most layers do not mind."""


class Parameters(nn.Module):
    """Numbers that a distribution is made of: linear in features, or learnt by themselves.

    Args:
        num_features: length F of the features; None for parameters without input.
        *shape: of the numbers, such as 2, latent_dim.
        start: what they are for h = 0, or at first: a number, or a tensor of that shape.
        scale: of the weights at first, relative to torch's; 0 lets the features have no say at first.
    """

    def __init__(self, num_features: int | None, *shape: int, start: Tensor | float = 0.0, scale: float = 1.0) -> None:
        super().__init__()
        self.shape = shape
        first = torch.as_tensor(start, dtype=torch.get_default_dtype()).expand(shape).clone()
        if num_features is None:
            self.linear, self.value = None, nn.Parameter(first)
            return
        self.linear = nn.Linear(num_features, first.numel())
        with torch.no_grad():
            self.linear.weight.mul_(scale)
            self.linear.bias.copy_(first.flatten())

    def forward(self, h: Tensor | None = None) -> Tensor:
        """(B, *shape) from (B, F) features, or (*shape) where there are none; of 32 bits or more under autocast too."""
        if self.linear is None:
            return self.value
        assert h is not None
        return full(self.linear(h)).unflatten(-1, self.shape)


def unconditional(layer: VariationalLayer) -> None:
    """Raise `UserError` if a layer that has no input was asked to depend on features."""
    if layer.num_features is not None:
        raise UserError(
            f"{type(layer).__name__} does not depend on features, so it can be no posterior and no prior that depends"
            " on classes: use DiagonalNormal or another layer there"
        )
