"""Normal distributions with covariances, against scipy and against the formula with whole matrices."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.distributions import Independent, Laplace, MultivariateNormal, kl_divergence

from lightning_gen.distributions import DiagonalNormal, FullNormal, LowRankNormal, StandardNormal
from lightning_gen.errors import UserError

D, F, B = 4, 5, 3
KINDS = {
    "diagonal": DiagonalNormal,
    "low-rank": partial(LowRankNormal, rank=2),
    "full": FullNormal,
}


def made(kind, batch):
    """A distribution with random parameters, of batch shape (batch,) or ()."""
    layer = KINDS[kind](D, F if batch else None).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(0.0, 0.7)
    return layer(torch.randn(batch, F, dtype=torch.float64) if batch else None)


def matrices(distribution):
    """Means (B, d) and covariances (B, d, d)."""
    if isinstance(distribution, Independent):
        covariance = torch.diag_embed(distribution.variance)
    else:
        covariance = distribution.covariance_matrix
    return distribution.mean.detach().numpy(), covariance.detach().numpy()


def divergence(p, q):
    """½ (tr Σ_q⁻¹ Σ_p + δᵀ Σ_q⁻¹ δ − d + log det Σ_q − log det Σ_p), with numpy."""
    (m, s), (n, t) = matrices(p), matrices(q)
    precision = np.linalg.inv(t)
    trace = np.trace(precision @ s, axis1=-2, axis2=-1)
    distance = np.einsum("...i,...ij,...j", m - n, precision, m - n)
    return 0.5 * (trace + distance - D + np.linalg.slogdet(t)[1] - np.linalg.slogdet(s)[1])


@pytest.mark.parametrize(("p_batch", "q_batch"), [(B, 0), (B, B), (0, 0), (0, B)])
@pytest.mark.parametrize(("p", "q"), list(product(KINDS, KINDS)))
def test_divergence_is_that_of_the_whole_covariances(p, q, p_batch, q_batch):
    torch.manual_seed(0)
    p, q = made(p, p_batch), made(q, q_batch)
    np.testing.assert_allclose(kl_divergence(p, q).detach(), divergence(p, q), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_from_the_standard_normal(kind):
    torch.manual_seed(0)
    p, q = made(kind, B), StandardNormal(D).double()()
    np.testing.assert_allclose(kl_divergence(p, q).detach(), divergence(p, q), rtol=1e-9)
    np.testing.assert_allclose(kl_divergence(q, p).detach(), divergence(q, p), rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_scipys(kind):
    torch.manual_seed(0)
    p, z = made(kind, B), torch.randn(2, B, D, dtype=torch.float64)
    means, covariances = matrices(p)
    expected = [
        multivariate_normal(m, s).logpdf(z[:, k]) for k, (m, s) in enumerate(zip(means, covariances, strict=True))
    ]
    np.testing.assert_allclose(p.log_prob(z).detach(), np.stack(expected, axis=1), rtol=1e-9)


@pytest.mark.parametrize("kind", ["low-rank", "full"])
def test_samples_have_the_covariance(kind):
    torch.manual_seed(0)
    p = made(kind, 0)
    (mean, covariance), z = matrices(p), p.sample((20000,)).numpy()
    variance = covariance.diagonal()
    error = np.sqrt((covariance**2 + np.outer(variance, variance)) / len(z))  # of each entry of a Wishart mean
    assert (np.abs(np.cov(z.T) - covariance) < 5 * error).all()
    assert (np.abs(z.mean(0) - mean) < 5 * np.sqrt(variance / len(z))).all()


def test_a_low_rank_factor_learns_from_the_start():
    torch.manual_seed(0)
    layer = LowRankNormal(3, rank=1)
    target = MultivariateNormal(torch.zeros(3), torch.full((3, 3), 0.9) + 0.1 * torch.eye(3))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        kl_divergence(layer(), target).backward()
        optimizer.step()
    torch.testing.assert_close(layer().covariance_matrix, target.covariance_matrix, atol=0.03, rtol=0)


def test_only_normal_distributions_have_these_divergences():
    laplace = Independent(Laplace(torch.zeros(D), torch.ones(D)), 1)
    with pytest.raises(NotImplementedError):
        kl_divergence(FullNormal(D)(), laplace)
    with pytest.raises(NotImplementedError):
        kl_divergence(laplace, LowRankNormal(D)())


@pytest.mark.parametrize("rank", [0, 5])
def test_rank_is_checked(rank):
    with pytest.raises(UserError, match=rf"LowRankNormal.rank is {rank}"):
        LowRankNormal(4, rank=rank)
