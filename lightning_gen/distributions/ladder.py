"""Latents in levels, each of which depends on the one above it (Sønderby et al., "Ladder VAEs", NeurIPS 2016)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from lightning_gen.distributions.base import Parameters, VariationalLayer, unconditional
from lightning_gen.distributions.seeded import draw
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise

Level = Callable[[Tensor], Normal]
"""(…, d above) latents to the normal distribution of the level below, of batch shape (…, d)."""


class Chain(Distribution):
    """p(z) = p(z_L) Π_l p(z_l | z_{l+1}); a value is the row (z_1, …, z_L), the lowest level first.

    Args:
        top: of the uppermost level, of batch shape (B, d_L) or (d_L,).
        levels: the others, lowest first.
        dims: d_1, …, d_L.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, top: Normal, levels: list[Level], dims: list[int]) -> None:
        self.top, self.levels, self.dims = top, levels, dims
        super().__init__(top.batch_shape[:-1], Size((sum(dims),)), validate_args=False)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """From the top down."""
        return self._down(self.top.rsample(sample_shape), lambda level: level.rsample())

    def log_prob(self, value: Tensor) -> Tensor:
        """Summed over levels."""
        parts = value.split(self.dims, dim=-1)
        terms = [level.log_prob(part).sum(-1) for level, part in zip(self.conditionals(value), parts, strict=True)]
        return torch.stack(terms).sum(0)

    def conditionals(self, value: Tensor) -> list[Normal]:
        """Of each level given the one above it in a value (…, d), lowest first; of independent numbers."""
        above = value.split(self.dims, dim=-1)[1:]
        return [*(level(z) for level, z in zip(self.levels, above, strict=True)), self.top]

    @property
    def mean(self) -> Tensor:
        """Each level's mean, given that of the level above: not the mean of the chain, but what stands for it."""
        return self._down(self.top.mean, lambda level: level.mean)

    def _down(self, z: Tensor, pick: Callable[[Normal], Tensor]) -> Tensor:
        parts = [z]
        for level in reversed(self.levels):
            parts.insert(0, pick(level(parts[0])))
        return torch.cat(parts, dim=-1)


@draw.register
def _(distribution: Chain, noise: Noise, num: int) -> Tensor:
    z = draw(Independent(distribution.top, 1, validate_args=False), noise, num)

    def pick(level: Normal) -> Tensor:
        epsilon = noise.normal(num, *level.loc.shape[2:], dtype=level.loc.dtype).transpose(0, 1)
        return level.loc + level.scale * epsilon

    return distribution._down(z, pick)


class HierarchicalNormal(VariationalLayer):
    """The prior of a ladder: z_L ~ N(0, I), z_l | z_{l+1} normal, its parameters by a perceptron with one hidden layer.

    Args:
        latent_dim: numbers of all levels together.
        num_features: None; it does not depend on features.
        dims: numbers of each level, the lowest first; their sum is `latent_dim`.
        width: units of the hidden layers.

    Raises:
        UserError: if the sum is another.
    """

    zeros: Tensor

    def __init__(self, latent_dim: int, num_features: int | None, dims: list[int], width: int) -> None:
        super().__init__(latent_dim, num_features)
        unconditional(self)
        check_dims(dims, latent_dim)
        self.dims = list(dims)
        self.register_buffer("zeros", torch.zeros(dims[-1]), persistent=False)
        pairs = zip(dims[1:], dims[:-1], strict=True)
        self.networks = nn.ModuleList(_to_normal(above, below, width) for above, below in pairs)

    def forward(self, h: Tensor | None = None) -> Chain:
        """Of batch shape ()."""
        top = Normal(self.zeros, torch.ones_like(self.zeros), validate_args=False)
        return Chain(top, [_level(network) for network in self.networks], self.dims)


class LadderNormal(VariationalLayer):
    """The posterior of a ladder: what features say of a level, and what the level above says, weighted by precision.

        q(z_l | z_{l+1}, x) = N(σ² (μ̂ σ̂⁻² + μ_p σ_p⁻²), σ²),   σ⁻² = σ̂⁻² + σ_p⁻²        (eqs. 13–16 of the paper)

    with μ̂, σ̂ from a deterministic pass upwards and μ_p, σ_p those of the prior's level.

    Args:
        latent_dim: numbers of all levels together.
        num_features: length F of the features.
        dims: numbers of each level, the lowest first; their sum is `latent_dim`.
        width: units of the hidden layers upwards.
    """

    def __init__(self, latent_dim: int, num_features: int | None, dims: list[int], width: int) -> None:
        super().__init__(latent_dim, num_features)
        check_dims(dims, latent_dim)
        if num_features is None:
            raise UserError("LadderNormal is a posterior, which needs features: use HierarchicalNormal as prior")
        self.dims = list(dims)
        sizes = [num_features] + [width] * (len(dims) - 1)
        self.up = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.SiLU()) for a, b in pairwise(sizes))
        self.heads = nn.ModuleList(Parameters(size, 2, dim) for size, dim in zip(sizes, dims, strict=True))

    @property
    def decoded_dim(self) -> int:
        """The lowest level."""
        return self.dims[0]

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Not without a prior."""
        raise UserError("LadderNormal depends on its prior: it belongs to the family LadderVAE")

    def given(self, h: Tensor, prior: Chain) -> Chain:
        """q(z | x) of features h (B, F) beside a prior of batch shape (), of batch shape (B,)."""
        said = []
        for k, head in enumerate(self.heads):
            h = h if k == 0 else self.up[k - 1](h)
            said.append(_normal(head(h)))
        levels = [_weighted(here, above) for here, above in zip(said[:-1], prior.levels, strict=True)]
        return Chain(said[-1], levels, self.dims)


def check_dims(dims: list[int], latent_dim: int) -> None:
    """Raise `UserError` unless `dims` has levels, of at least 1 number each, that add up to `latent_dim`."""
    if not dims or min(dims) < 1 or sum(dims) != latent_dim:
        raise UserError(f"dims of a ladder is {dims}: give each level at least 1 number, {latent_dim} together")


def _to_normal(above: int, below: int, width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(above, width), nn.SiLU(), Parameters(width, 2, below))


def _normal(parameters: Tensor) -> Normal:
    loc, log_variance = parameters.unbind(-2)
    return Normal(loc, (0.5 * log_variance.clamp(-20.0, 20.0)).exp(), validate_args=False)


def _level(network: nn.Module) -> Level:
    return lambda z: _normal(network(z))


def _weighted(here: Normal, above: Level) -> Level:
    def level(z: Tensor) -> Normal:
        prior = above(z)
        a, b = here.variance.reciprocal(), prior.variance.reciprocal()
        variance = 1 / (a + b)
        return Normal(variance * (here.loc * a + prior.loc * b), variance.sqrt(), validate_args=False)

    return level
