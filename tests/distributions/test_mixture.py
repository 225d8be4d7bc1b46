"""Mixtures of normal distributions: densities against scipy, gradients through samples against closed forms."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from torch.distributions import kl_divergence

from lightning_gen.distributions import DiagonalNormal, NormalMixture, StandardNormal
from lightning_gen.distributions import mixture as module
from lightning_gen.errors import UserError

D, K, F, B = 2, 3, 4, 5


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = NormalMixture(D, num_components=K).double()
    with torch.no_grad():
        layer.parameters_of.value.normal_(0.0, 0.8)
    return layer


def numbers(distribution):
    """Weights (…, K), means and deviations (…, K, d)."""
    normals = distribution.component_distribution.base_dist
    return distribution.mixture_distribution.probs, normals.loc, normals.scale


@pytest.mark.parametrize("at_a_time", [2**24, 40, 1])
def test_density_is_scipys_however_many_at_a_time(monkeypatch, at_a_time):
    monkeypatch.setattr(module, "_NUMBERS_AT_A_TIME", at_a_time)
    torch.manual_seed(0)
    q = NormalMixture(D, F, num_components=K).double()(torch.randn(B, F).double())
    z = torch.randn(7, B, D).double()
    pi, mu, sigma = (t.detach().numpy() for t in numbers(q))
    each = norm(mu, sigma).logpdf(z.unsqueeze(-2)).sum(-1)
    np.testing.assert_allclose(q.log_prob(z).detach(), logsumexp(each, axis=-1, b=pi), rtol=1e-9)


def test_samples_keep_their_distribution_functions(layer):
    """In one dimension ∂z/∂θ = −(∂F/∂θ) / p(z); here the first coordinate's."""
    p = layer()
    z = p.rsample((6,))
    pi, mu, sigma = numbers(p)
    for row in z:
        (found,) = torch.autograd.grad(row[0], layer.parameters_of.value, retain_graph=True)
        t = torch.distributions.Normal(mu[:, 0], sigma[:, 0])
        (of_cdf,) = torch.autograd.grad(
            (pi * t.cdf(row[0].detach())).sum(), layer.parameters_of.value, retain_graph=True
        )
        density = (pi * t.log_prob(row[0].detach()).exp()).sum()
        torch.testing.assert_close(found, -of_cdf / density)


def test_gradient_through_samples_is_that_of_the_expectation(layer):
    """E[z₁ z₂² + sin z₂] of each component has a closed form: μ₁ (μ₂² + σ₂²) + sin(μ₂) exp(−σ₂²/2)."""
    value = layer.parameters_of.value
    pi, mu, sigma = numbers(layer())
    moment = mu[:, 0] * (mu[:, 1] ** 2 + sigma[:, 1] ** 2) + mu[:, 1].sin() * (-(sigma[:, 1] ** 2) / 2).exp()
    (expected,) = torch.autograd.grad((pi * moment).sum(), value)
    groups = []
    for _ in range(60):
        z = layer().rsample((1000,))
        groups.append(torch.autograd.grad((z[:, 0] * z[:, 1] ** 2 + z[:, 1].sin()).mean(), value)[0])
    groups = torch.stack(groups)
    error = groups.std(0) / len(groups) ** 0.5
    assert ((groups.mean(0) - expected).abs() < 4.5 * error).all()
    assert (error < 0.1 * expected.abs().max()).all()


def test_gradients_keep_their_digits_in_the_tails():
    torch.manual_seed(0)
    layer = NormalMixture(D, num_components=K)
    found = []
    for z in (torch.tensor([[9.0, -9.0], [-8.0, 7.0], [6.0, 9.0]]),):
        for dtype in (torch.float32, torch.float64):
            layer = layer.to(dtype)
            exact = layer().reparameterised(z.to(dtype))
            assert torch.equal(exact, z.to(dtype))
            found.append(torch.autograd.grad(exact.sum(), layer.parameters_of.value)[0])
    torch.testing.assert_close(found[0].double(), found[1], rtol=1e-3, atol=1e-4)


def test_one_component_is_a_normal_distribution():
    torch.manual_seed(0)
    p = NormalMixture(D, num_components=1).double()()
    _, mu, sigma = numbers(p)
    z = p.rsample((4,))
    epsilon = ((z - mu) / sigma).detach()
    ours = torch.autograd.grad((z**3).sum(), [mu, sigma], retain_graph=True)
    normals = torch.autograd.grad(((mu + sigma * epsilon) ** 3).sum(), [mu, sigma])
    torch.testing.assert_close(ours, normals)


def test_divergences_have_no_closed_form(layer):
    mixture, normal = layer(), DiagonalNormal(D)()
    for p, q in [(mixture, normal), (normal, mixture), (mixture, mixture), (StandardNormal(D)(), mixture)]:
        with pytest.raises(NotImplementedError):
            kl_divergence(p, q)


def test_no_gradient_is_made_where_none_is_wanted(layer):
    with torch.no_grad():
        assert not layer().rsample((2,)).requires_grad
    assert not layer().sample((2,)).requires_grad


@pytest.mark.parametrize(("key", "value"), [("num_components", 0), ("spread", -1.0)])
def test_numbers_are_checked(key, value):
    with pytest.raises(UserError, match=rf"NormalMixture.{key} is {value}"):
        NormalMixture(D, **{key: value})
