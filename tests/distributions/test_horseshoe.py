import math

import numpy as np
import pytest
import torch
from distribution_checks import check_draws, check_layers, numbers, sample_gradients
from scipy.integrate import quad
from scipy.special import erfcx, ndtr
from scipy.stats import kstest
from torch.distributions import Cauchy, Independent, Laplace, Normal, StudentT, kl_divergence

from lightning_gen.distributions import (
    FullNormal,
    Horseshoe,
    LowRankNormal,
    NormalMixture,
    PiecewiseNormal,
    RealNVPFlow,
    SplitNormal,
    StandardHorseshoe,
    StandardLaplace,
    StandardNormal,
)
from lightning_gen.distributions.horseshoe import HorseshoeDistribution
from lightning_gen.distributions.mixture import mixture
from lightning_gen.errors import UserError


def density(z: float, loc: float = 0.0, scale: float = 1.0) -> float:
    return HorseshoeDistribution(*numbers(loc, scale)).log_prob(torch.tensor(z, dtype=torch.float64)).exp().item()


def test_mass_near_the_spike():
    assert 2 * quad(density, 0, 1)[0] == pytest.approx(0.6275, abs=5e-5)
    assert 2 * sum(quad(density, a, b)[0] for a, b in ((0, 1), (1, 30), (30, math.inf))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("z", [1e-3, 0.4, 3.0, 50.0])
def test_density_is_that_of_a_normal_of_half_cauchy_scale(z):
    """∫ N(z; m, τ²λ²) 2/(π(1 + λ²)) dλ with λ = tan(πu/2)."""

    def at(u: float) -> float:
        scale = 0.7 * math.tan(math.pi * u / 2)
        return math.exp(-0.5 * (z / scale) ** 2) / (scale * math.sqrt(2 * math.pi))

    peak = 2 / math.pi * math.atan(z / 0.7)
    expected = quad(at, 0, peak, limit=200)[0] + quad(at, peak, 1, limit=200)[0]
    assert density(z + 1.5, 1.5, 0.7) == pytest.approx(expected, rel=1e-6)


def test_float32_density_everywhere():
    z = torch.cat([torch.logspace(-30, 15, 200), torch.zeros(1)]).requires_grad_()
    log_p = HorseshoeDistribution(torch.zeros(()), torch.ones(())).log_prob(z)
    (gradient,) = torch.autograd.grad(log_p.sum(), z)
    assert torch.isfinite(log_p).all()
    assert torch.isfinite(gradient).all()
    far = z.detach() > 1e3
    torch.testing.assert_close(gradient[far], -2 / z.detach()[far], rtol=1e-5, atol=0)  # as of a Cauchy variable


def cdf(z: np.ndarray) -> np.ndarray:
    scale = np.tan(np.pi * (np.arange(1000) + 0.5) / 2000)
    return ndtr(z[:, None] / scale).mean(1)


def test_samples_follow_the_law():
    torch.manual_seed(0)
    z = HorseshoeDistribution(*numbers(0.4, 2.0)).sample((4000,)).numpy()
    assert kstest((z - 0.4) / 2, cdf).pvalue > 1e-4


def test_gradients_of_samples():
    """E[cos τλε] = E[exp(−τ²λ²/2)] = exp(τ²/2) erfc(τ/√2), and E[sin] = 0 around 0."""
    loc, scale = numbers(0.5, 0.8)
    at_loc, at_scale = sample_gradients(HorseshoeDistribution, [loc, scale], torch.cos)
    value = erfcx(0.8 / math.sqrt(2))
    slope = 0.8 * value - math.sqrt(2 / math.pi)
    assert abs(at_loc[0] + math.sin(0.5) * value) < 4.5 * at_loc[1]
    assert abs(at_scale[0] - math.cos(0.5) * slope) < 4.5 * at_scale[1]


def test_layers():
    check_layers(Horseshoe(3, 2), Horseshoe(3), divergence_estimate=False)
    check_draws(Horseshoe(2, 3), StandardHorseshoe(2, scale=0.1))
    prior = StandardHorseshoe(2, scale=0.1)()
    torch.testing.assert_close(
        prior.log_prob(torch.ones(2)).double(), torch.tensor(2 * math.log(density(1.0, 0.0, 0.1))).double()
    )
    layer = Horseshoe(3, 2)
    q = layer(torch.randn(4, 2))
    torch.testing.assert_close(layer.mean(q), q.base_dist.loc)
    assert q.mean.isnan().all()
    assert q.variance.isinf().all()


def test_divergences_that_have_no_closed_form():
    q = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    for posterior, prior in ((q, StandardHorseshoe(3)()), (Horseshoe(3)(), StandardHorseshoe(3)())):
        with pytest.raises(NotImplementedError):
            kl_divergence(posterior, prior)


LIGHT = [
    StandardNormal,
    StandardLaplace,
    NormalMixture,
    FullNormal,
    LowRankNormal,
    SplitNormal,
    PiecewiseNormal,
    RealNVPFlow,
]


@pytest.mark.parametrize("prior", LIGHT)
@pytest.mark.parametrize("posterior", [Horseshoe, StandardHorseshoe])
def test_priors_with_lighter_tails_are_refused(posterior, prior):
    with pytest.raises(UserError, match=rf"posterior {posterior.__name__} from a prior .* is infinite.*Horseshoe"):
        posterior(3).check_prior(prior(3)())


def test_priors_with_tails_as_heavy_are_not():
    components = Horseshoe(2, 3)(torch.randn(4, 3))  # what a VampPrior is made of
    heavy = [Independent(kind, 1) for kind in (Cauchy(torch.zeros(2), 1.0), StudentT(3.0, torch.zeros(2)))]
    for prior in (Horseshoe(2)(), StandardHorseshoe(2)(), mixture(torch.zeros(4), components), *heavy):
        Horseshoe(2, 3).check_prior(prior)
    StandardNormal(2).check_prior(StandardHorseshoe(2)())  # the other way round it is finite


def test_only_tails_as_heavy_give_an_expectation():
    """Of −log p under a horseshoe: the median of means settles, or grows as more is drawn."""
    torch.manual_seed(0)
    z = HorseshoeDistribution(*numbers(0.0, 1.0)).sample((64, 20_000))
    for prior, settles in ((HorseshoeDistribution(*numbers(0.0, 0.5)), True), (Laplace(*numbers(0.0, 1.0)), False)):
        cost = -prior.log_prob(z)
        few, many = cost[:, :20].mean(1).median(), cost.mean(1).median()
        assert bool(abs(many / few - 1) < 0.3) is settles


def test_bad_arguments():
    with pytest.raises(UserError, match=r"StandardHorseshoe\.scale is 0"):
        StandardHorseshoe(2, scale=0)
    with pytest.raises(UserError, match=r"max_log_variance is -30"):
        Horseshoe(2, 3, max_log_variance=-30)
    with pytest.raises(UserError, match="does not depend on features"):
        StandardHorseshoe(2, 3)
