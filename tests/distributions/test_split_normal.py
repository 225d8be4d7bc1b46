import math

import pytest
import torch
from distribution_checks import check_draws, check_layers, check_sample_gradients, divergence, integral, numbers
from scipy.stats import kstest
from torch.distributions import Normal, kl_divergence

from lightning_gen.distributions import SplitNormal, StandardNormal
from lightning_gen.distributions.split_normal import SplitNormalDistribution

Q = (0.4, 0.3, 0.9)
OTHERS = [(0.0, 1.0, 1.0), (-0.7, 0.2, 1.5), (1.1, 2.0, 0.4), (0.4, 0.5, 0.6), (6.0, 0.7, 0.9), (-5.0, 1.0, 0.5)]


def split(*values: float) -> SplitNormalDistribution:
    return SplitNormalDistribution(*numbers(*values))


def edges(*at: float) -> list[float]:
    """With the modes, and as far as the widest of the distributions here reaches."""
    return sorted({-30.0, -8.0, -3.0, *at, 3.0, 8.0, 30.0})


def test_the_number_to_reach():
    assert kl_divergence(split(*Q), Normal(*numbers(0, 1))).item() == pytest.approx(0.59732, abs=5e-6)


def test_density_and_moments():
    q, at = split(*Q), edges(Q[0])
    assert integral(lambda z: q.log_prob(z).exp(), *at).item() == pytest.approx(1, abs=1e-9)
    mean = integral(lambda z: z * q.log_prob(z).exp(), *at).item()
    assert q.mean.item() == pytest.approx(mean, abs=1e-9)
    assert q.variance.item() == pytest.approx(
        integral(lambda z: (z - mean) ** 2 * q.log_prob(z).exp(), *at).item(), abs=1e-9
    )
    assert q.entropy().item() == pytest.approx(
        -integral(lambda z: q.log_prob(z) * q.log_prob(z).exp(), *at).item(), abs=1e-9
    )
    for z in (-0.5, 0.4, 1.7):
        below = integral(lambda x: q.log_prob(x).exp(), *(e for e in at if e < z), z).item()
        assert q.cdf(torch.tensor(z, dtype=torch.float64)).item() == pytest.approx(below, abs=1e-9)
    assert q.log_prob(torch.tensor(0.4)).exp().item() == pytest.approx(2 / (math.sqrt(2 * math.pi) * 1.2))


@pytest.mark.parametrize("p", OTHERS)
def test_divergences_are_the_integrals(p):
    at = edges(Q[0], p[0])
    pairs = [(split(*Q), split(*p)), (split(*p), split(*Q))]
    pairs += [(split(*p), Normal(*numbers(-0.2, 1.3))), (Normal(*numbers(-0.2, 1.3)), split(*p))]
    for q, p_ in pairs:
        assert kl_divergence(q, p_).item() == pytest.approx(divergence(q, p_, *at).item(), rel=1e-8, abs=1e-9)


def test_divergence_with_equal_scales_is_that_of_normals():
    q, p = numbers(0.3, 0.6), numbers(-1, 1.4)
    expected = kl_divergence(Normal(*q), Normal(*p))
    torch.testing.assert_close(
        kl_divergence(SplitNormalDistribution(*q, q[1]), SplitNormalDistribution(*p, p[1])), expected
    )


def test_samples_follow_the_law():
    q = split(*Q)
    torch.manual_seed(0)
    z = q.sample((4000,))
    assert kstest(z.numpy(), lambda x: q.cdf(torch.tensor(x)).numpy()).pvalue > 1e-4
    u = torch.tensor([1e-12, 0.1, 0.25, 0.6, 0.999], dtype=torch.float64)
    torch.testing.assert_close(q.cdf(q.icdf(u)), u, rtol=1e-9, atol=0)


def test_noise_becomes_a_normal_where_scales_are_equal():
    noise = torch.linspace(-6.5, 6.5, 53)
    z = SplitNormalDistribution(torch.tensor(1.0), torch.tensor(2.0), torch.tensor(2.0)).push(noise)
    torch.testing.assert_close(z, 1 + 2 * noise, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("f", [torch.tanh, torch.square])
def test_gradients_of_samples(f):
    check_sample_gradients(SplitNormalDistribution, numbers(*Q), f, *edges(Q[0]))


def test_layers():
    check_layers(SplitNormal(3, 2), SplitNormal(3))
    check_draws(SplitNormal(2, 3), SplitNormal(2))
    torch.testing.assert_close(kl_divergence(SplitNormal(2)(), StandardNormal(2)()), torch.zeros(()))
