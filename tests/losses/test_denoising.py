"""Losses of denoisers: what they weigh, when, and what minimises them."""

import math

import pytest
import torch
from scipy.stats import lognorm

from lightning_gen.errors import UserError
from lightning_gen.losses.denoising import EDMLoss, MinSNR, SimpleLoss
from lightning_gen.preconditioning import EDM, Epsilon, Sample, Velocity
from lightning_gen.schedules import ContinuousLinearBeta, LinearBeta, VarianceExploding

KINDS = {"epsilon": Epsilon(), "velocity": Velocity(), "sample": Sample(), "edm": EDM(0.8)}
LOSSES = {"simple": SimpleLoss(), "edm": EDMLoss(), "min_snr": MinSNR(2.0)}


def made(kind, n=6, d=5, schedule=None):
    """α, σ, scales, target and a random output of n samples."""
    schedule = schedule or ContinuousLinearBeta()
    alpha, sigma = (v[:, None] for v in schedule(schedule.spread(torch.linspace(0.05, 0.95, n, dtype=torch.float64))))
    x, epsilon, output = torch.randn(3, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noisy, scales = alpha * x + sigma * epsilon, KINDS[kind](alpha, sigma)
    error = scales.skip * noisy + scales.out * output - x
    target = KINDS[kind].target(x, epsilon, alpha, sigma)
    return output, target, (alpha / sigma).square()[:, 0], scales.out[:, 0], error.square().mean(1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_simple_loss_is_the_plain_mean_square(kind):
    output, target, snr, out, _ = made(kind)
    torch.testing.assert_close(SimpleLoss()(output, target, snr, out), (output - target).square().mean(1))


def test_the_edm_loss_is_lambda_times_the_denoisers_error():
    output, target, snr, out, error = made("edm", schedule=VarianceExploding())
    sigma = snr ** (-0.5)
    weight = (sigma**2 + 0.8**2) / (sigma * 0.8) ** 2
    torch.testing.assert_close(EDMLoss()(output, target, snr, out), weight * error)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_bounds_the_weight_of_the_denoisers_error(kind):
    output, target, snr, out, error = made(kind)
    weights = snr.clamp(max=2.0)
    assert 1 <= int((weights < 2).sum()) < len(weights)
    torch.testing.assert_close(MinSNR(2.0)(output, target, snr, out), weights * error)


def test_min_snr_of_noise_and_velocity_as_in_the_paper():
    for kind, expected in (("epsilon", lambda s: s.clamp(max=5) / s), ("velocity", lambda s: s.clamp(max=5) / (s + 1))):
        *_, snr, out, _ = made(kind)
        torch.testing.assert_close(MinSNR(5.0).weight(snr, out), expected(snr))


def test_losses_are_means_over_entries():
    output, target, snr, out, _ = made("epsilon")
    for loss in LOSSES.values():
        once, twice = loss(output, target, snr, out), loss(output.repeat(1, 2), target.repeat(1, 2), snr, out)
        torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_posterior_mean_minimises_every_loss(kind, name):
    # x_0 is −1 or 1, as often, so E[x_0 | x] = tanh(α x / σ²)
    alpha, sigma = (v[:, None] for v in ContinuousLinearBeta()(torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)))
    noisy = torch.tensor([[-0.7], [0.2], [0.4]], dtype=torch.float64)
    mean, scales = torch.tanh(alpha * noisy / sigma**2), KINDS[kind](alpha, sigma)
    output = ((mean - scales.skip * noisy) / scales.out).requires_grad_()
    total = 0.0
    for x in (-1.0, 1.0):
        share = torch.sigmoid(2 * x * alpha * noisy / sigma**2)[:, 0]
        sample = torch.full_like(noisy, x)
        target = KINDS[kind].target(sample, (noisy - alpha * sample) / sigma, alpha, sigma)
        total = total + share * LOSSES[name](output, target, (alpha / sigma).square()[:, 0], scales.out[:, 0])
    (gradient,) = torch.autograd.grad(total.sum(), output)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_noise_levels_of_edm_are_log_normal():
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    found = EDMLoss(-1.2, 1.2).times(u, VarianceExploding(1e-6, 1e6))
    expected = lognorm.ppf(u.numpy(), 1.2, scale=math.exp(-1.2))
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-7, atol=0)


def test_noise_levels_of_edm_on_a_schedule_of_steps():
    u = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    alpha, sigma = LinearBeta()(EDMLoss().times(u, LinearBeta()))
    expected = torch.from_numpy(lognorm.ppf(u.numpy(), 1.2, scale=math.exp(-1.2))).clamp(min=0.0100005)
    torch.testing.assert_close(sigma / alpha, expected, rtol=1e-3, atol=0)


def test_the_ends_of_uniform_numbers_stay_finite():
    u = torch.tensor([torch.finfo(torch.float32).tiny, 1 - 2.0**-24])
    for loss in LOSSES.values():
        for schedule in (VarianceExploding(), LinearBeta(), ContinuousLinearBeta()):
            alpha, sigma = schedule(loss.times(u, schedule))
            assert (sigma / alpha).isfinite().all()
            assert (sigma > 0).all()


def test_uniform_times_are_those_of_the_schedule():
    u = torch.rand(20, generator=torch.Generator().manual_seed(0))
    for schedule in (VarianceExploding(), LinearBeta()):
        assert torch.equal(SimpleLoss().times(u, schedule), schedule.spread(u))


@pytest.mark.parametrize(
    ("make", "told"),
    [(lambda: EDMLoss(P_std=0.0), "EDMLoss.P_std is 0"), (lambda: MinSNR(-1.0), "MinSNR.gamma is -1")],
)
def test_bad_numbers_are_refused(make, told):
    with pytest.raises(UserError, match=told):
        make()
