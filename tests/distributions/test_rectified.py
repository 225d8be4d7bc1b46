import math

import pytest
import torch
from distribution_checks import check_draws, check_layers, integral, numbers, sample_gradients
from scipy.integrate import quad
from scipy.stats import kstest, norm
from torch.distributions import Normal, kl_divergence

from lightning_gen.distributions import RectifiedNormal, StandardNormal, StandardRectifiedNormal
from lightning_gen.distributions.rectified import RectifiedNormalDistribution
from lightning_gen.errors import UserError

PAIRS = [((0.7, 0.5), (0.0, 1.0)), ((-1.2, 0.8), (0.3, 2.0)), ((3.0, 0.4), (-1.0, 1.5)), ((0.2, 1.0), (0.2, 1.0))]


def test_the_number_to_reach():
    q, p = RectifiedNormalDistribution(*numbers(0.7, 0.5)), RectifiedNormalDistribution(*numbers(0, 1))
    assert kl_divergence(q, p).item() == pytest.approx(0.50145, abs=5e-6)


@pytest.mark.parametrize(("q", "p"), PAIRS)
def test_divergence_is_that_of_the_atoms_and_the_integral(q, p):
    q_, p_ = norm(*q), norm(*p)
    atom = q_.cdf(0) * (q_.logcdf(0) - p_.logcdf(0))
    end = max(q[0], 0) + 12 * q[1]
    above, _ = quad(lambda z: q_.pdf(z) * (q_.logpdf(z) - p_.logpdf(z)), 0, end, epsabs=1e-13, limit=200)
    found = kl_divergence(RectifiedNormalDistribution(*numbers(*q)), RectifiedNormalDistribution(*numbers(*p)))
    assert found.item() == pytest.approx(atom + above, abs=1e-10)


@pytest.mark.parametrize(("loc", "scale"), [(0.7, 0.5), (-1.2, 0.8)])
def test_law_and_moments(loc, scale):
    q = RectifiedNormalDistribution(*numbers(loc, scale))
    torch.manual_seed(0)
    z = q.sample((4000,))
    atom = norm(loc, scale).cdf(0)
    zero = torch.zeros(1, dtype=torch.float64)
    assert q.log_prob(zero).exp().item() == pytest.approx(atom)
    assert q.log_prob(zero - 1e-9).item() == -math.inf
    assert abs((z == 0).double().mean() - atom) < 4.5 * (atom * (1 - atom) / 4000) ** 0.5
    above = z[z > 0].numpy()
    assert kstest(above, lambda x: (norm(loc, scale).cdf(x) - atom) / (1 - atom)).pvalue > 1e-4
    edges = (0.0, 1.0, 3.0, 8.0)
    assert integral(lambda x: q.log_prob(x).exp(), *edges).item() == pytest.approx(1 - atom, abs=1e-10)
    mean = integral(lambda x: x * q.log_prob(x).exp(), *edges).item()
    assert q.mean.item() == pytest.approx(mean, abs=1e-10)
    square = integral(lambda x: x**2 * q.log_prob(x).exp(), *edges).item()
    assert q.variance.item() == pytest.approx(square - mean**2, abs=1e-10)


def test_gradients_of_samples_are_those_of_the_mean():
    parameters = numbers(-0.3, 0.9)
    free = [p.requires_grad_() for p in numbers(-0.3, 0.9)]
    expected = torch.autograd.grad(RectifiedNormalDistribution(*free).mean, free)
    found = sample_gradients(RectifiedNormalDistribution, parameters, lambda z: z)
    for (mean, error), true in zip(found, expected, strict=True):
        assert abs(mean - true) < 4.5 * error


@pytest.mark.parametrize("ratio", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_extremes_in_float32(ratio):
    values = [torch.tensor(v).requires_grad_() for v in (ratio, 1.0)]
    q, p = RectifiedNormalDistribution(*values), RectifiedNormalDistribution(torch.tensor(0.0), torch.tensor(1.0))
    found = kl_divergence(q, p)
    exact = kl_divergence(RectifiedNormalDistribution(*numbers(ratio, 1)), RectifiedNormalDistribution(*numbers(0, 1)))
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
    if ratio < -20:
        assert found.item() == pytest.approx(math.log(2))  # all at the atom, where the prior has a half
    if ratio > 20:
        assert found.item() == pytest.approx(ratio**2 / 2, rel=1e-5)
    total = found + q.log_prob(torch.tensor([0.0, 2.0])).sum() * 1e-9 + q.mean
    for gradient in torch.autograd.grad(total, values):
        assert torch.isfinite(gradient)


def test_layers():
    check_layers(RectifiedNormal(3, 2), RectifiedNormal(3))
    check_draws(RectifiedNormal(2, 3), RectifiedNormal(2))
    standard = kl_divergence(RectifiedNormal(2)(), StandardRectifiedNormal(2)())
    torch.testing.assert_close(standard, torch.zeros(()))  # where a learnt one starts


def test_divergences_from_distributions_without_an_atom():
    with pytest.raises(UserError, match="atom"):
        kl_divergence(RectifiedNormal(2)(), StandardNormal(2)())
    with pytest.raises(UserError, match="atom"):
        kl_divergence(Normal(0.0, 1.0), RectifiedNormalDistribution(torch.zeros(()), torch.ones(())))
