"""Normal distributions with covariances, and the divergences between normal distributions of all kinds.

torch has those between two multivariate normals; here are those that involve independent ones, or autocast.
"""

from functools import singledispatch
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    register_kl,
)

from lightning_gen.precision import exact, full


class Full(MultivariateNormal):
    """torch's multivariate normal, whose numbers keep 32 bits under autocast."""

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """(…, d)."""
        with exact(self.loc):
            return super().rsample(Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of (…, d) values."""
        with exact(value):
            return super().log_prob(full(value))


class LowRank(LowRankMultivariateNormal):
    """N(loc, W Wᵀ + diag D), as torch's; without its wait for the device, and with 32 bits under autocast.

    Args:
        loc: (…, d).
        cov_factor: W, (…, d, r).
        cov_diag: D, (…, d), above 0.
    """

    def __init__(self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor) -> None:
        self.loc, self.cov_factor, self.cov_diag = loc, cov_factor, cov_diag
        self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag = cov_factor, cov_diag
        with exact(loc):
            capacitance = (cov_factor.mT / cov_diag.unsqueeze(-2)) @ cov_factor
            capacitance = capacitance + torch.eye(cov_factor.shape[-1], dtype=loc.dtype, device=loc.device)
            # it is positive definite; linalg.cholesky would ask the device whether it is
            self._capacitance_tril = torch.linalg.cholesky_ex(capacitance).L
        Distribution.__init__(self, loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Distribution:
        """The same, of a larger batch."""
        return super().expand(batch_shape, _instance or self.__new__(type(self)))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:  # noqa: B008 (as torch has it)
        """(…, d)."""
        with exact(self.loc):
            return super().rsample(Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats of (…, d) values."""
        with exact(value):
            return super().log_prob(full(value))


@register_kl(Independent, MultivariateNormal)
@register_kl(Independent, LowRankMultivariateNormal)
@register_kl(MultivariateNormal, Independent)
@register_kl(LowRankMultivariateNormal, Independent)
@register_kl(LowRank, LowRank)
@register_kl(LowRank, Full)
@register_kl(Full, LowRank)
def _kl(p: Distribution, q: Distribution) -> Tensor:
    """E_p[log p] − E_p[log q],  −E_p[log q] = −log q(μ_p) + ½ tr(Σ_q⁻¹ Σ_p)."""
    for distribution in (p, q):
        _check_normal(distribution)
    with exact(p.mean):
        return 0.5 * _trace(q, p) - q.log_prob(p.mean) - p.entropy()


def _check_normal(distribution: Distribution) -> None:
    if isinstance(distribution, Independent) and not (
        isinstance(distribution.base_dist, Normal) and distribution.reinterpreted_batch_ndims == 1
    ):
        raise NotImplementedError


@singledispatch
def _trace(q: Any, p: Distribution) -> Tensor:
    """Tr(Σ_q⁻¹ Σ_p): here of independent normals q."""
    return (p.variance / q.variance).sum(-1)


@_trace.register
def _(q: MultivariateNormal, p: Distribution) -> Tensor:
    tril = q._unbroadcasted_scale_tril
    identity = torch.eye(tril.shape[-1], dtype=tril.dtype, device=tril.device).expand_as(tril)
    return _spread(p, torch.linalg.solve_triangular(tril, identity, upper=False))


@_trace.register
def _(q: LowRankMultivariateNormal, p: Distribution) -> Tensor:
    """By Woodbury: Σ_q⁻¹ = D⁻¹ − Aᵀ A with A = C^(−1/2) Wᵀ D⁻¹, C = I + Wᵀ D⁻¹ W."""
    diagonal = q._unbroadcasted_cov_diag
    scaled = q._unbroadcasted_cov_factor.mT / diagonal.unsqueeze(-2)
    a = torch.linalg.solve_triangular(q._capacitance_tril, scaled, upper=False)
    return (p.variance / diagonal).sum(-1) - _spread(p, a)


@singledispatch
def _spread(p: Any, a: Tensor) -> Tensor:
    """Tr(A Σ_p Aᵀ) for A (…, m, d), without a matrix for each of a batch of independent normals p."""
    return (a.square().sum(-2) * p.variance).sum(-1)


@_spread.register
def _(p: MultivariateNormal, a: Tensor) -> Tensor:
    return (a @ p._unbroadcasted_scale_tril).square().sum((-2, -1))


@_spread.register
def _(p: LowRankMultivariateNormal, a: Tensor) -> Tensor:
    factor, diagonal = p._unbroadcasted_cov_factor, p._unbroadcasted_cov_diag
    return (a @ factor).square().sum((-2, -1)) + (a.square().sum(-2) * diagonal).sum(-1)
