import pytest
import torch
from distribution_checks import check_draws, check_layers, check_sample_gradients, divergence, integral, numbers
from scipy.stats import kstest, norm, truncnorm
from torch.distributions import Normal, kl_divergence

from lightning_gen.distributions import PiecewiseNormal, StandardNormal
from lightning_gen.distributions.piecewise import PiecewiseNormalDistribution
from lightning_gen.errors import UserError

LIMIT = 2.0
EDGES = (-40.0, -15.0, -6.0, -3.0, -2.0, -2 / 3, 2 / 3, 2.0, 3.0, 6.0, 15.0, 40.0)


def parameters(seed: int) -> list[torch.Tensor]:
    """Of five intervals, some means in them and some not."""
    generator = torch.Generator().manual_seed(seed)
    logits, loc, log_scale = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    return [logits, 1.5 * loc, (0.5 * log_scale).exp()]


def piecewise(logits, loc, scale) -> PiecewiseNormalDistribution:
    return PiecewiseNormalDistribution(logits, loc, scale, LIMIT)


@pytest.mark.parametrize("seed", range(3))
def test_density_and_moments(seed):
    q = piecewise(*parameters(seed))
    assert integral(lambda z: q.log_prob(z).exp(), *EDGES).item() == pytest.approx(1, abs=1e-9)
    mean = integral(lambda z: z * q.log_prob(z).exp(), *EDGES).item()
    assert q.mean.item() == pytest.approx(mean, abs=1e-9)
    square = integral(lambda z: (z - mean) ** 2 * q.log_prob(z).exp(), *EDGES).item()
    assert q.variance.item() == pytest.approx(square, abs=1e-9)
    for z in (-3.1, -0.5, 0.1, 2.7):
        below = integral(lambda x: q.log_prob(x).exp(), *(e for e in EDGES if e < z), z).item()
        assert q.cdf(torch.tensor(z, dtype=torch.float64)).item() == pytest.approx(below, abs=1e-9)


def test_density_is_that_of_truncated_normals():
    logits, loc, scale = parameters(4)
    q, weights = piecewise(logits, loc, scale), logits.softmax(0)
    ends = [-torch.inf, -2.0, -2 / 3, 2 / 3, 2.0, torch.inf]
    for k, z in enumerate((-2.4, -1.1, 0.3, 1.9, 5.0)):
        a, b = ((e - loc[k]) / scale[k] for e in ends[k : k + 2])
        expected = weights[k].log() + truncnorm(a, b, loc[k], scale[k]).logpdf(z)
        assert q.log_prob(torch.tensor(z, dtype=torch.float64)).item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_divergences_are_the_integrals(seed):
    q, p = piecewise(*parameters(seed)), piecewise(*parameters(seed + 10))
    normal = Normal(*numbers(0.4, 1.2))
    for one, other in ((q, p), (q, normal), (normal, q)):
        assert kl_divergence(one, other).item() == pytest.approx(divergence(one, other, *EDGES).item(), abs=1e-8)


def test_gradients_are_those_of_differences():
    """Which do not know that the anchor that pieces are reckoned from is taken for a constant."""
    free, other = [p.requires_grad_() for p in parameters(5)], piecewise(*parameters(6))
    z = torch.tensor([-3.0, -1.3, 0.2, 0.9, 4.0], dtype=torch.float64, requires_grad=True)

    def computed(logits, loc, scale, z):
        q = piecewise(logits, loc, scale)
        rest = torch.stack((kl_divergence(q, other), kl_divergence(other, q), q.mean, q.variance))
        return torch.cat((rest, q.log_prob(z), q.cdf(z)))

    assert torch.autograd.gradcheck(computed, (*free, z))
    normal = [v.requires_grad_() for v in numbers(-2.3, 0.6)]
    assert torch.autograd.gradcheck(lambda *x: kl_divergence(Normal(*x), other), normal)


def test_divergence_from_other_knots_is_refused():
    logits, loc, scale = parameters(0)
    with pytest.raises(UserError, match=r"limits 2\.0 and 1\.0"):
        kl_divergence(piecewise(logits, loc, scale), PiecewiseNormalDistribution(logits, loc, scale, 1.0))


def test_samples_follow_the_law():
    q = piecewise(*parameters(1))
    torch.manual_seed(0)
    z = q.sample((4000,))
    assert kstest(z.numpy(), lambda x: q.cdf(torch.tensor(x)).numpy()).pvalue > 1e-4
    u = torch.cat([torch.logspace(-14, -1, 30), torch.linspace(0.1, 0.999, 50)]).double()
    torch.testing.assert_close(q.cdf(q.icdf(u)), u, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("f", [torch.tanh, torch.square])
def test_gradients_of_samples(f):
    check_sample_gradients(piecewise, parameters(2), f, *EDGES)


def test_gradient_of_one_sample_is_that_of_the_inverse():
    """Against differences of F⁻¹(u)."""
    free = [p.requires_grad_() for p in parameters(3)]
    for u in (0.003, 0.2, 0.55, 0.8, 0.999):
        at = torch.tensor(u, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda *x, at=at: piecewise(*x).icdf(at), free, eps=1e-6, atol=1e-5)


@pytest.mark.parametrize("loc", [-1e3, -20.0, 0.0, 150.0])
@pytest.mark.parametrize("scale", [0.007, 1.0, 148.0])
def test_extremes_in_float32(loc, scale):
    """Means far outside their intervals, where masses underflow by thousands of orders of magnitude."""
    made = {}
    for dtype in (torch.float32, torch.float64):
        free = [torch.full((5,), v, dtype=dtype, requires_grad=True) for v in (0.0, loc, scale)]
        q = piecewise(*free)
        z = q.push(torch.linspace(-5, 5, 41, dtype=dtype))
        value = kl_divergence(q, Normal(*(v.to(dtype) for v in numbers(0, 1)))) / scale
        gradients = torch.autograd.grad(value + q.log_prob(z.detach()).mean() / scale**2 + z.tanh().mean(), free)
        assert all(torch.isfinite(g).all() for g in gradients)
        made[dtype] = torch.cat([value[None], z]).detach().double()
    # points within an interval are known to the digits of their coordinate
    torch.testing.assert_close(made[torch.float32], made[torch.float64], rtol=1e-3, atol=2e-4)


def test_noise_becomes_a_normal_where_there_is_one():
    q = PiecewiseNormal(1, num_intervals=6)().base_dist
    noise = torch.linspace(-6.5, 6.5, 53).unsqueeze(1)
    torch.testing.assert_close(q.push(noise), noise, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(q.log_prob(noise), torch.tensor(norm.logpdf(noise)).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_intervals", [2, 3, 8])
def test_layers(num_intervals):
    posterior, prior = PiecewiseNormal(3, 2, num_intervals), PiecewiseNormal(3, num_intervals=num_intervals)
    check_layers(posterior, prior)
    check_layers(PiecewiseNormal(3, 2, num_intervals), _Normal(3))
    check_draws(PiecewiseNormal(2, 3, num_intervals), PiecewiseNormal(2, num_intervals=num_intervals))


class _Normal(StandardNormal):
    """Of a weight, so that there is a gradient to look at."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)
        self.loc = torch.nn.Parameter(torch.full((latent_dim,), 0.2))

    def forward(self, h=None):
        return torch.distributions.Independent(Normal(self.loc, torch.ones_like(self.loc)), 1)


def test_every_interval_is_reached():
    q = piecewise(torch.zeros(5, dtype=torch.float64), *parameters(0)[1:])
    z = q.icdf(torch.linspace(0.1, 0.9, 5, dtype=torch.float64))
    assert q._interval(z).tolist() == [0, 1, 2, 3, 4]


def test_bad_arguments():
    with pytest.raises(UserError, match=r"PiecewiseNormal\.num_intervals is 1"):
        PiecewiseNormal(2, num_intervals=1)
    with pytest.raises(UserError, match=r"PiecewiseNormal\.limit is 0"):
        PiecewiseNormal(2, limit=0)
