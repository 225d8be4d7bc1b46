"""Likelihoods of continuous and of binary data: against torch.distributions, quadrature and scipy."""

from itertools import pairwise
from math import log

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import distributions as td

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import (
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    Laplace,
    LearnedGaussian,
    LearnedLaplace,
    OptimalGaussian,
    SharedGaussian,
    bits_per_dim,
    dequantised_bits_per_dim,
)
from lightning_gen.noise import Noise, sample_seeds

CASES = {
    "gaussian": (lambda: Gaussian(0.3), lambda p: td.Normal(p[:, 0], 0.3)),
    "laplace": (lambda: Laplace(0.3), lambda p: td.Laplace(p[:, 0], 0.3)),
    "learned_gaussian": (LearnedGaussian, lambda p: td.Normal(p[:, 0], soft(p[:, 1], -7.0))),
    "learned_laplace": (LearnedLaplace, lambda p: td.Laplace(p[:, 0], soft(p[:, 1], -7.0))),
    "shared_gaussian": (lambda: SharedGaussian(0.3, -6.0), lambda p: td.Normal(p[:, 0], 0.3)),
    "optimal_gaussian": (lambda: OptimalGaussian().eval(), lambda p: td.Normal(p[:, 0], 1.0)),
}


def soft(log_scale, minimum):
    """exp of minimum + log(1 + e^{log_scale − minimum})."""
    log_scale = torch.as_tensor(log_scale, dtype=torch.float64)
    return np.exp(minimum) * (1 + (log_scale - minimum).exp())


def noise(n, seed=0):
    return Noise(sample_seeds(seed, torch.arange(n)))


def parameters(likelihood, *shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(shape[0], likelihood.num_parameters, *shape[1:], generator=g, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_densities_are_those_of_torch(name):
    build, reference = CASES[name]
    likelihood = build()
    p, x = parameters(likelihood, 5, 2, 3), torch.randn(5, 2, 3, dtype=torch.float64)
    found = likelihood(p, x)
    assert found.shape == (5,)
    torch.testing.assert_close(found, reference(p).log_prob(x).sum((1, 2)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(likelihood.mean(p), p[:, 0])


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_distribution(name):
    build, reference = CASES[name]
    likelihood = build()
    p = parameters(likelihood, 1, 2).expand(2000, -1, -1)
    x = likelihood.draw(p, noise(2000))
    u = reference(p).cdf(x)
    for entry in u.unbind(1):
        assert stats.kstest(entry.detach().numpy(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(u.detach().numpy().T)[0, 1]) < 0.08  # entries have their own noise


def test_learned_scales_are_bounded_and_keep_their_gradient():
    for likelihood in (LearnedGaussian(-2.0), LearnedLaplace(-2.0)):
        p = torch.tensor([[[0.0], [-9.0]]], requires_grad=True)
        assert likelihood.log_scale(p).item() == pytest.approx(-2, abs=1e-3)
        likelihood(p, torch.ones(1, 1)).sum().backward()
        assert p.grad[0, 1].item() != 0


# ---------------------------------------------------------------------- σ-VAE


def test_shared_scale_is_best_at_the_root_mean_square():
    x = torch.randn(6, 3, dtype=torch.float64)
    p = torch.zeros(6, 1, 3, dtype=torch.float64)
    likelihood = SharedGaussian(x.square().mean().sqrt().item(), min_log_scale=-30.0).double()
    likelihood(p, x).mean().backward()
    assert likelihood.raw_log_scale.grad.abs() < 1e-6
    assert likelihood(p, x).mean() > SharedGaussian(0.5)(p, x).mean()


@pytest.mark.parametrize("scale", [0.003, 0.1, 30.0])
def test_a_shared_scale_starts_where_it_is_told_to(scale):
    likelihood = SharedGaussian(scale)
    assert likelihood.log_scale(torch.zeros(1)).exp().item() == pytest.approx(scale, rel=1e-4)
    likelihood.raw_log_scale.data -= 100.0  # and falls no further than it is told
    assert likelihood.log_scale(torch.zeros(1)).item() == pytest.approx(-6.0)


def test_optimal_scale_gives_the_gradient_of_the_log_error():
    likelihood = OptimalGaussian()
    p, x = parameters(likelihood, 6, 3).requires_grad_(), torch.randn(6, 3, dtype=torch.float64)
    loss = -likelihood(p, x).mean()
    mse = (x - p[:, 0]).square().mean()
    expected = 1.5 * mse.log()  # D/2 log σ², the rest is constant
    assert loss.item() == pytest.approx((expected + 1.5 * (log(2 * np.pi) + 1)).item())
    torch.testing.assert_close(torch.autograd.grad(loss, p)[0], torch.autograd.grad(expected, p)[0])


def test_optimal_scale_in_evaluation_is_an_average_that_no_batch_moves():
    likelihood = OptimalGaussian(decay=0.75)
    p = torch.zeros(4, 1, 3)
    likelihood(p, torch.full((4, 3), 2.0))
    likelihood(p, torch.full((4, 3), 1.0))
    likelihood.eval()
    assert likelihood.variance.item() == pytest.approx(0.75 * 4 + 0.25 * 1)
    x = torch.randn(4, 3)
    torch.testing.assert_close(likelihood(p[:1], x[:1]), likelihood(p, x)[:1])
    assert likelihood.variance.item() == pytest.approx(3.25)
    assert OptimalGaussian()(p, torch.zeros(4, 3)).isfinite().all()  # an error of 0 has the smallest σ


# ---------------------------------------------------------------------- two values, and between them


def test_bernoulli_is_that_of_torch_and_sums_to_one():
    p = parameters(Bernoulli(), 5, 3) * 4
    x = torch.tensor([-1.0, 1, 1], dtype=torch.float64).expand(5, 3)
    expected = td.Bernoulli(logits=p[:, 0]).log_prob((x + 1) / 2).sum(1)
    torch.testing.assert_close(Bernoulli()(p, x), expected)
    both = [Bernoulli()(p[:, :, :1], torch.full((5, 1), value)).exp() for value in (-1.0, 1.0)]
    torch.testing.assert_close(sum(both), torch.ones(5, dtype=torch.float64))
    huge = torch.tensor([[[200.0]]])
    assert Bernoulli()(huge, -torch.ones(1, 1)).item() == pytest.approx(-200)
    torch.testing.assert_close(Bernoulli().mean(p), 2 * p[:, 0].sigmoid() - 1)
    draws = Bernoulli().draw(p[:1].expand(3000, -1, -1), noise(3000))
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(draws.mean(0), Bernoulli().mean(p[:1])[0], rtol=0, atol=4 / 3000**0.5)


LOGITS = torch.tensor([0.0, 1e-12, -1e-6, 1e-3, -0.1, 0.4999, 0.5001, -0.51, 2.0, -7.0, 10.0], dtype=torch.float64)


def test_continuous_bernoulli_is_that_of_torch_less_log_two_an_entry():
    for b in (0.0, 0.2, 0.5, 1.0):
        p = LOGITS[:, None, None]
        found = ContinuousBernoulli()(p, torch.full((len(p), 1), 2 * b - 1, dtype=torch.float64))
        reference = td.ContinuousBernoulli(logits=LOGITS).log_prob(torch.full_like(LOGITS, b)) - log(2)
        torch.testing.assert_close(found, reference, rtol=1e-8, atol=1e-8)
    mean = 2 * td.ContinuousBernoulli(logits=LOGITS).mean - 1
    torch.testing.assert_close(ContinuousBernoulli().mean(LOGITS[:, None, None])[:, 0], mean, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("logit", [0.0, 1e-9, 0.3, 0.49, 0.51, -3.0, 60.0, -500.0])
def test_continuous_bernoulli_is_a_density_of_x_with_that_mean(logit):
    likelihood, p = ContinuousBernoulli(), torch.tensor([[[logit]]], dtype=torch.float64)

    def density(x):
        return likelihood(p, torch.tensor([[x]], dtype=torch.float64)).exp().item()

    edges = [-1, -1 + 0.05, 1 - 0.05, 1]  # where large logits have all their mass
    parts = list(pairwise(edges))
    assert sum(integrate.quad(density, *part)[0] for part in parts) == pytest.approx(1, abs=1e-7)
    mean = sum(integrate.quad(lambda x: x * density(x), *part)[0] for part in parts)
    assert likelihood.mean(p).item() == pytest.approx(mean, abs=1e-7)


def test_continuous_bernoulli_has_the_gradient_everywhere():
    # d/dl log p = (x − E[x]) / 2, whatever formula log C is computed by
    p = LOGITS[:, None, None].clone().requires_grad_()
    x = torch.full((len(p), 1), 0.3, dtype=torch.float64)
    gradient = torch.autograd.grad(ContinuousBernoulli()(p, x).sum(), p)[0][:, 0]
    torch.testing.assert_close(gradient, (x - ContinuousBernoulli().mean(p)) / 2)
    single = LOGITS.float()[:, None, None].requires_grad_()
    found = torch.autograd.grad(ContinuousBernoulli()(single, x.float()).sum(), single)[0][:, 0]
    torch.testing.assert_close(found.double(), gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("logit", [0.0, 1e-7, 1.0, -5.0, 200.0])
def test_continuous_bernoulli_draws_have_the_distribution(logit):
    p = torch.full((2000, 1, 1), logit, dtype=torch.float64)
    x = ContinuousBernoulli().draw(p, noise(2000)).flatten()
    assert x.abs().max() <= 1
    y = logit / 2
    cdf = (x + 1) / 2 if abs(y) < 1e-6 else ((y * (x - 1)).exp() - np.exp(-2 * y)) / -np.expm1(-2 * y)
    assert stats.kstest(cdf.numpy(), "uniform").pvalue > 0.01


# ---------------------------------------------------------------------- what all keep


@pytest.mark.parametrize("build", [*[case[0] for case in CASES.values()], Bernoulli, ContinuousBernoulli])
def test_a_draw_depends_on_its_own_stream_alone(build):
    likelihood = build()
    p = parameters(likelihood, 5, 1, 4, 4).float()
    together = likelihood.draw(p, noise(5))
    seeds = sample_seeds(0, torch.arange(5))
    alone = torch.cat([likelihood.draw(p[i : i + 1], Noise(seeds[i : i + 1])) for i in range(5)])
    assert torch.equal(together, alone)
    assert together.dtype == torch.float32


@pytest.mark.parametrize("build", [*[case[0] for case in CASES.values()], Bernoulli, ContinuousBernoulli])
def test_nats_have_full_precision_when_parameters_have_not(build):
    likelihood = build()
    p, x = parameters(likelihood, 5, 1, 16, 16).bfloat16(), torch.ones(5, 1, 16, 16)
    found = likelihood(p, x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), likelihood(p.double(), x.double()), rtol=1e-5, atol=1e-3)


def test_images_stay_in_range_and_vectors_do_not():
    for likelihood in (Gaussian(), Laplace()):
        image, vector = torch.full((3, 1, 1, 2, 2), 5.0), torch.full((3, 1, 2), 5.0)
        assert (likelihood.mean(image) == 1).all()
        assert likelihood.draw(image, noise(3)).abs().max() <= 1
        assert (likelihood.mean(vector) == 5).all()
        assert likelihood.draw(vector, noise(3)).max() > 1


def test_data_that_do_not_fit_are_described():
    grey = torch.linspace(-1, 1, 17).view(1, 17)
    with pytest.raises(UserError, match="17 values from -1 to 1"):
        Bernoulli().check(grey)
    Bernoulli().check(grey.sign() + (grey == 0))
    with pytest.raises(UserError, match="2 values from 0 to 255"):
        ContinuousBernoulli().check(torch.tensor([[0.0, 255.0]]))
    ContinuousBernoulli().check(grey)
    broken = torch.tensor([[0.0, float("nan"), float("inf")]])
    for likelihood in (Gaussian(), LearnedLaplace(), ContinuousBernoulli(), Bernoulli()):
        with pytest.raises(UserError, match="2 values that are NaN or infinite"):
            likelihood.check(broken)
    Gaussian().check(100 * grey)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Gaussian(0.0), "Gaussian.scale is 0"),
        (lambda: SharedGaussian(-1.0), "SharedGaussian.scale is -1"),
        (lambda: SharedGaussian(0.002), "SharedGaussian.scale is 0.002: it must be above .* 0.002479"),
        (lambda: OptimalGaussian(1.0), "OptimalGaussian.decay is 1"),
        (lambda: Laplace(float("nan")), "Laplace.scale is nan"),
    ],
)
def test_arguments_out_of_range_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_bits_an_entry():
    assert bits_per_dim(12 * log(256), 12) == pytest.approx(8)
    # bytes spread evenly: 8 bits, whether counted or as the density ½ of x in [-1, 1]
    assert dequantised_bits_per_dim(12 * log(2), 12) == pytest.approx(8)
