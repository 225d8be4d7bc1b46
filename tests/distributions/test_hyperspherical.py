import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from distribution_checks import check_draws, numbers, sample_gradients
from scipy.integrate import quad
from scipy.special import gammaln, iv
from scipy.stats import kstest, vonmises_fisher
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from lightning_gen.distributions import StandardNormal, UniformSphere, VonMisesFisher
from lightning_gen.distributions.hyperspherical import VonMisesFisherDistribution
from lightning_gen.distributions.special import bessel_ratio
from lightning_gen.distributions.spherical_angles import NUM_PROPOSALS, angle_speed, first_angle, proposals
from lightning_gen.errors import UserError

CASES = [(2, 0.3), (2, 40.0), (3, 2.0), (5, 1e3), (8, 6.0), (32, 20.0)]
cases = pytest.mark.parametrize(("dim", "kappa"), CASES)


def fisher(dim: int, kappa: float) -> VonMisesFisherDistribution:
    direction = normalize(torch.randn(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(dim)), dim=0)
    return VonMisesFisherDistribution(direction, torch.tensor(kappa, dtype=torch.float64))


def angle_density(dim: int, kappa: float):
    """Of the angle from the mode, without its constant."""
    return lambda t: np.sin(t) ** (dim - 2) * np.exp(kappa * (np.cos(t) - 1))


def mass(dim: int, kappa: float, low: float, high: float) -> float:
    width = 1 / math.sqrt(kappa + dim - 2)
    peak = math.acos(min(1, 2 * kappa / (dim - 2 + math.sqrt((dim - 2) ** 2 + 4 * kappa**2))))
    cuts = [low, *sorted({c for c in (peak - 6 * width, peak, peak + 6 * width) if low < c < high}), high]
    f = angle_density(dim, kappa)
    return sum(quad(f, a, b, epsabs=0, epsrel=1e-11)[0] for a, b in pairwise(cuts))


@cases
def test_density_is_scipys(dim, kappa):
    q = fisher(dim, kappa)
    torch.manual_seed(0)
    z = torch.cat([q.sample((4,)), normalize(torch.randn(4, dim).double(), dim=-1)])
    expected = vonmises_fisher(q.loc.numpy(), kappa).logpdf(z.numpy())
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-9, atol=1e-9)
    single = VonMisesFisherDistribution(q.loc.float(), torch.tensor(kappa)).log_prob(z.float())
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-4)


@cases
def test_density_is_normalised(dim, kappa):
    q = fisher(dim, kappa)
    sphere_below = math.log(2) + (dim - 1) / 2 * math.log(math.pi) - gammaln((dim - 1) / 2)  # area of S^{d−2}
    peak = q.log_prob(q.loc).item()
    assert peak + sphere_below + math.log(mass(dim, kappa, 0, math.pi)) == pytest.approx(0, abs=1e-9)


@cases
def test_divergences(dim, kappa):
    q, uniform = fisher(dim, kappa), UniformSphere(dim).double()()
    torch.manual_seed(0)
    z = q.sample((20000,))
    ratio = q.log_prob(z) - uniform.log_prob(z)
    found = kl_divergence(q, uniform)
    assert abs(ratio.mean() - found) < 5 * ratio.std() / len(z) ** 0.5
    order = dim / 2 - 1
    if kappa < 500:  # the textbook's formula
        area = math.log(2) + dim / 2 * math.log(math.pi) - gammaln(dim / 2)
        log_c = order * math.log(kappa) - dim / 2 * math.log(2 * math.pi) - math.log(iv(order, kappa))
        assert found.item() == pytest.approx(kappa * iv(order + 1, kappa) / iv(order, kappa) + log_c + area, abs=1e-9)
    p = VonMisesFisherDistribution(normalize(q.loc + 0.5, dim=0), torch.tensor(3.0).double())
    for one, other in ((q, p), (uniform, q)):
        z = one.sample((20000,))
        ratio = one.log_prob(z) - other.log_prob(z)
        assert abs(ratio.mean() - kl_divergence(one, other)) < 5 * ratio.std() / len(z) ** 0.5
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-9)


@cases
def test_samples_follow_the_law(dim, kappa):
    q = fisher(dim, kappa)
    torch.manual_seed(1)
    z = q.sample((2000,))
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(2000).double(), rtol=0, atol=1e-9)
    angles = (2 * ((z - q.loc).norm(dim=-1) / 2).asin()).numpy()
    grid = np.linspace(0, min(math.pi, 20 / math.sqrt(kappa + dim - 2)), 20001)
    p = angle_density(dim, kappa)(grid)
    cdf = np.concatenate([[0], np.cumsum((p[1:] + p[:-1]) / 2)])
    assert kstest(angles, lambda x: np.interp(x, grid, cdf / cdf[-1])).pvalue > 1e-4
    across = z - (z @ q.loc)[:, None] * q.loc  # no direction across is preferred
    side = normalize(across, dim=-1).mean(0)
    assert (side.abs() < 4.5 / 2000**0.5).all()


@pytest.mark.parametrize("dim", [2, 3, 16, 128])
def test_proposals_are_accepted_often_enough(dim):
    """So that a draw of which none is happens less than once in 10¹²."""
    torch.manual_seed(0)
    u = torch.rand(3, 100000, dtype=torch.float64).clamp(min=1e-12)
    for kappa in (1e-3, 3.0, 1e2, 1e6):
        versine, accepted = proposals(*u, torch.tensor(kappa).double(), dim)
        rate = accepted.double().mean().item()
        assert (1 - rate + 0.005) ** NUM_PROPOSALS < 1e-12
        cosine = 1 - versine[accepted]
        ratio = bessel_ratio(dim / 2 - 1, torch.tensor(kappa).double())
        assert abs(cosine.mean() - ratio) < 4.5 * cosine.std() / accepted.sum() ** 0.5


def test_first_accepted_proposal_counts():
    versine = torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    accepted = torch.tensor([[False, True, True], [True, False, True]])
    torch.testing.assert_close(first_angle(versine, accepted).cos(), torch.tensor([0.8, 0.9]))


@cases
def test_speed_of_the_angle_is_that_of_its_quantile(dim, kappa):
    """∂θ/∂κ = −(∂F/∂κ)/p, with F by scipy and ∂ by differences."""
    step = 1e-4 * kappa
    width = 1 / math.sqrt(kappa + dim - 2)
    peak = math.acos(min(1, 2 * kappa / (dim - 2 + math.sqrt((dim - 2) ** 2 + 4 * kappa**2))))
    angles = [a for a in (peak - 1.5 * width, peak - 0.3 * width, peak + 0.4 * width, peak + 2 * width) if 0 < a < 3]
    ratio = bessel_ratio(dim / 2 - 1, torch.tensor(kappa).double())
    for angle in angles:

        def cdf(k, angle=angle):
            return mass(dim, k, 0, angle) / mass(dim, k, 0, math.pi)

        slope = (cdf(kappa + step) - cdf(kappa - step)) / (2 * step)
        density = angle_density(dim, kappa)(angle) / mass(dim, kappa, 0, math.pi)
        found = angle_speed(torch.tensor(angle).double(), torch.tensor(kappa).double(), ratio, dim)
        assert found.item() == pytest.approx(-slope / density, rel=1e-5)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 1.5), (3, 8.0), (8, 5.0)])
def test_gradients_of_samples(dim, kappa):
    """E[aᵀz + (bᵀz)²] is known: E[z] = Aμ, E[zzᵀ] = (A/κ) I + (1 − dA/κ) μμᵀ."""
    q = fisher(dim, kappa)
    torch.manual_seed(2)
    a, b = torch.randn(2, dim).double()
    raw = q.loc * 1.3

    def make(direction, concentration):
        return VonMisesFisherDistribution(normalize(direction, dim=-1), concentration)

    free = [raw.clone().requires_grad_(), q.concentration.clone().requires_grad_()]
    mu, ratio = normalize(free[0], dim=0), bessel_ratio(dim / 2 - 1, free[1])
    second = ratio / free[1] * (b @ b) + (1 - dim * ratio / free[1]) * (b @ mu) ** 2
    expected = torch.autograd.grad(ratio * (a @ mu) + second, free)
    found = sample_gradients(make, [raw, q.concentration], lambda z: z @ a + (z @ b) ** 2, 40000)
    for (mean, error), true in zip(found, expected, strict=True):
        assert ((mean - true).abs() < 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_layers(dim):
    torch.manual_seed(0)
    layer, prior = VonMisesFisher(dim, 4), UniformSphere(dim)
    q, p = layer(torch.randn(5, 4)), prior()
    assert (q.batch_shape, q.event_shape, p.batch_shape, p.event_shape) == ((5,), (dim,), (), (dim,))
    assert (q.concentration >= 1).all()
    z = q.rsample((6,))
    assert z.shape == (6, 5, dim)
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=-1), torch.ones(6, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.mean(q).norm(dim=-1), torch.ones(5))
    assert (q.mean.norm(dim=-1) < 1).all()
    assert q.expand((3, 5)).rsample().shape == (3, 5, dim)
    loss = (kl_divergence(q, p) + q.log_prob(z) + p.log_prob(z) + z[..., 0]).mean()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, list(layer.parameters())))
    check_draws(layer, prior, 4)
    check_draws(VonMisesFisher(dim, 4), VonMisesFisher(dim), 4)


def test_uniform_points():
    p = UniformSphere(3)()
    torch.manual_seed(0)
    z = p.sample((4000,))
    assert kstest(z[:, 1].numpy(), lambda x: (x + 1) / 2).pvalue > 1e-4  # Archimedes
    torch.testing.assert_close(p.log_prob(z), torch.full((4000,), -math.log(4 * math.pi)))
    assert kl_divergence(p, p).item() == 0
    assert (p.mean == 0).all()


@pytest.mark.parametrize("kappa", [1e-3, 1.0, 1e4])
def test_many_dimensions_in_float32(kappa):
    mu = normalize(torch.ones(128), dim=0)
    free = torch.tensor(kappa, requires_grad=True)
    q = VonMisesFisherDistribution(mu, free)
    found = kl_divergence(q, UniformSphere(128)())
    exact = kl_divergence(VonMisesFisherDistribution(mu.double(), *numbers(kappa)), UniformSphere(128).double()())
    assert found.item() == pytest.approx(exact.item(), rel=1e-4, abs=1e-6)
    total = found + q.rsample((4,)).square()[..., 0].sum()
    assert torch.isfinite(torch.autograd.grad(total, free)[0])


def test_what_is_refused():
    for posterior, prior in (
        (VonMisesFisher(3)(), StandardNormal(3)()),
        (StandardNormal(3)(), UniformSphere(3)()),
    ):
        with pytest.raises(UserError, match="unit sphere"):
            kl_divergence(posterior, prior)
    with pytest.raises(UserError, match="latent_dim is 1"):
        UniformSphere(1)
    with pytest.raises(UserError, match="min_concentration is 0"):
        VonMisesFisher(3, min_concentration=0)
    with pytest.raises(UserError, match="max_concentration is 1"):
        VonMisesFisher(3, max_concentration=1.0)
