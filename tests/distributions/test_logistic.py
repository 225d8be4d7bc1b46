"""The logistic prior, against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, logistic

from lightning_gen.distributions import StandardLogistic, draw
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds


def test_density_and_moments_are_scipys():
    p, z = StandardLogistic(3).double()(), 6 * torch.randn(50, 3).double()
    np.testing.assert_allclose(p.log_prob(z), logistic.logpdf(z).sum(-1), rtol=1e-12)
    base = p.base_dist
    np.testing.assert_allclose(base.cdf(z), logistic.cdf(z), rtol=1e-12)
    np.testing.assert_allclose(base.icdf(base.cdf(z)), z, rtol=1e-6)
    assert p.mean.tolist() == [0, 0, 0]
    np.testing.assert_allclose(p.variance, logistic.var(), rtol=1e-12)
    np.testing.assert_allclose(p.entropy(), 3 * logistic.entropy(), rtol=1e-6)


def test_large_numbers_have_a_density():
    # torch's own, made of a uniform distribution, gives them none in single precision
    p = StandardLogistic(1)()
    torch.testing.assert_close(p.log_prob(torch.tensor([[40.0], [-40.0]])), torch.tensor([-40.0, -40.0]))


@pytest.mark.parametrize("by_seed", [True, False])
def test_draws_are_logistic(by_seed):
    torch.manual_seed(0)
    p, n = StandardLogistic(2)(), 4000
    z = draw(p, Noise(sample_seeds(0, torch.arange(n))), 1)[0] if by_seed else p.rsample((n,))
    assert z.shape == (n, 2)
    for column in z.T:
        assert kstest(column.numpy(), logistic.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(z.T.numpy())[0, 1]) < 5 / math.sqrt(n)


def test_a_draw_depends_on_its_own_stream_alone():
    p, seeds = StandardLogistic(3)(), sample_seeds(0, torch.arange(5))
    whole = draw(p, Noise(seeds), 2)
    parts = [draw(p, Noise(part), 2) for part in seeds.split([1, 4])]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_it_depends_on_nothing():
    with pytest.raises(UserError, match="StandardLogistic does not depend on features"):
        StandardLogistic(2, 3)
