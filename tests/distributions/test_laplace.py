"""Laplace distributions and their divergences, against scipy and quadrature."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import laplace, norm
from torch.distributions import Laplace, Normal, kl_divergence

from lightning_gen.distributions import DiagonalLaplace, DiagonalNormal, StandardLaplace, StandardNormal

SCIPY = {Normal: norm, Laplace: laplace}


@pytest.mark.parametrize(("kind_p", "kind_q"), [(Normal, Laplace), (Laplace, Normal), (Laplace, Laplace)])
@pytest.mark.parametrize(
    ("p", "q"), [((0.3, 0.5), (-0.4, 1.2)), ((0.0, 2.0), (0.0, 0.7)), ((-1.5, 0.2), (1.0, 0.4)), ((0, 1), (0, 1))]
)
def test_divergence_is_the_integral(kind_p, kind_q, p, q):
    log_p, log_q = SCIPY[kind_p](*p).logpdf, SCIPY[kind_q](*q).logpdf
    edges = sorted({p[0], q[0], p[0] - 3 * p[1], p[0] + 3 * p[1], p[0] - 38 * p[1], p[0] + 38 * p[1]})
    expected = sum(
        quad(lambda z: np.exp(log_p(z)) * (log_p(z) - log_q(z)), a, b, epsabs=1e-12)[0] for a, b in pairwise(edges)
    )
    found = kl_divergence(kind_p(*torch.tensor(p, dtype=torch.float64)), kind_q(*torch.tensor(q, dtype=torch.float64)))
    assert found.item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("prior", [StandardLaplace, StandardNormal, DiagonalLaplace, DiagonalNormal])
@pytest.mark.parametrize("posterior", [DiagonalLaplace, DiagonalNormal])
def test_divergence_of_vectors_is_the_mean_log_ratio(posterior, prior):
    torch.manual_seed(0)
    q, p = posterior(2, 3)(torch.randn(2, 3)), prior(2)()
    z = q.sample((20000,))
    ratio = (q.log_prob(z) - p.log_prob(z)).detach()
    assert ((ratio.mean(0) - kl_divergence(q, p)).abs() < 5 * ratio.std(0) / len(z) ** 0.5 + 1e-5).all()


def test_density_is_scipys():
    torch.manual_seed(0)
    q, z = DiagonalLaplace(2, 3).double()(torch.randn(4, 3).double()), torch.randn(5, 4, 2).double()
    loc, scale = q.base_dist.loc.detach(), q.base_dist.scale.detach()
    np.testing.assert_allclose(q.log_prob(z).detach(), laplace(loc, scale).logpdf(z).sum(-1), rtol=1e-9)
    np.testing.assert_allclose(StandardLaplace(2).double()().log_prob(z), laplace.logpdf(z).sum(-1), rtol=1e-9)
