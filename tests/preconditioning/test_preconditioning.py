"""Preconditionings: unit variance, one denoiser whatever is predicted, and the papers' own formulae."""

import math

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.preconditioning import EDM, Epsilon, Sample, Velocity
from lightning_gen.schedules import LinearBeta, VarianceExploding

ALL = {"epsilon": Epsilon(), "velocity": Velocity(), "sample": Sample(), "edm": EDM(0.5)}
SCHEDULES = {"linear": LinearBeta(), "exploding": VarianceExploding(0.01, 20.0)}


def levels(name):
    schedule = SCHEDULES[name]
    return schedule(schedule.spread(torch.linspace(0, 1, 7, dtype=torch.float64)))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_network_that_says_the_target_denoises(kind, name):
    alpha, sigma = levels(name)
    x, epsilon = torch.randn(2, 50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scales = ALL[kind](alpha, sigma)
    denoised = scales.skip * (alpha * x + sigma * epsilon) + scales.out * ALL[kind].target(x, epsilon, alpha, sigma)
    torch.testing.assert_close(denoised, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", SCHEDULES)
def test_inputs_and_targets_have_unit_variance(kind, name):
    alpha, sigma = levels(name)
    std = 0.5 if kind == "edm" else 1.0
    x, epsilon = torch.randn(2, 40_000, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = std * x
    inside = ALL[kind](alpha, sigma).inside * (alpha * x + sigma * epsilon)
    target = ALL[kind].target(x, epsilon, alpha, sigma)
    for found in (inside, target):
        assert ((found.var(0) - 1).abs() < 5 * math.sqrt(2 / 40_000)).all()


def test_edm_is_table_1():
    sigma, data = torch.logspace(-2, 2, 9, dtype=torch.float64), 0.4
    scales = EDM(data)(torch.ones_like(sigma), sigma)
    torch.testing.assert_close(scales.skip, data**2 / (sigma**2 + data**2))
    torch.testing.assert_close(scales.out, sigma * data / (sigma**2 + data**2).sqrt())
    torch.testing.assert_close(scales.inside, 1 / (sigma**2 + data**2).sqrt())


def test_edm_amplifies_errors_as_little_as_it_can():
    # unit variance of targets fixes c_out² = (1 − c_skip)² σ_data² + c_skip² σ² (appendix B.6)
    sigma, data = torch.logspace(-2, 2, 9, dtype=torch.float64), 0.4
    scales = EDM(data)(torch.ones_like(sigma), sigma)
    less, ours, more = (
        (1 - skip) ** 2 * data**2 + skip**2 * sigma**2 for skip in (scales.skip - 0.01, scales.skip, scales.skip + 0.01)
    )
    torch.testing.assert_close(ours, scales.out**2)
    assert (less > ours).all()
    assert (more > ours).all()


def test_edm_of_another_schedule_is_that_of_the_sample_over_alpha():
    alpha, sigma = levels("linear")
    ours, theirs = EDM(0.5)(alpha, sigma), EDM(0.5)(torch.ones_like(alpha), sigma / alpha)
    torch.testing.assert_close(ours.skip * alpha, theirs.skip)
    torch.testing.assert_close(ours.out, theirs.out)
    torch.testing.assert_close(ours.inside * alpha, theirs.inside)


def test_velocity_is_edm_of_unit_variance_but_for_the_sign():
    for name in SCHEDULES:
        alpha, sigma = levels(name)
        v, edm = Velocity()(alpha, sigma), EDM(1.0)(alpha, sigma)
        for ours, theirs in zip(v, (edm.skip, -edm.out, edm.inside), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_velocity_is_how_samples_move_with_the_angle():
    x, epsilon = torch.tensor([0.7, -1.3], dtype=torch.float64)
    angle = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    (moved,) = torch.autograd.grad(angle.cos() * x + angle.sin() * epsilon, angle)
    torch.testing.assert_close(Velocity().target(x, epsilon, angle.cos(), angle.sin()).detach(), moved)


def test_a_bad_number_is_refused():
    with pytest.raises(UserError, match=r"EDM\.sigma_data is 0"):
        EDM(0.0)
