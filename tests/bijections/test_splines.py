"""Rational quadratic splines: zuko's values, the identity outside, and bins that meet."""

import pytest
import torch

from lightning_gen.bijections.spline import Spline
from lightning_gen.bijections.zuko_import import zuko

K, BOUND = 5, 3.0


def made():
    return Spline(None, K, BOUND)


def numbers(*shape, scale=1.0, dtype=torch.float64):
    torch.manual_seed(0)
    return scale * torch.randn(*shape, 3 * K - 1).to(dtype)


def theirs(theta):
    parts = theta.split([K, K, K - 1], dim=-1)
    return zuko().transforms.MonotonicRQSTransform(*parts, bound=BOUND)


@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0])
def test_values_slopes_and_gradients_are_zukos(scale):
    theta = numbers(40, 3, scale=scale).requires_grad_()
    x = (2 * torch.randn(40, 3).double()).requires_grad_()
    y, log_slope = made().forward(x, theta)
    expected = theirs(theta).call_and_ladj(x)
    torch.testing.assert_close((y, log_slope), expected)
    weights = torch.randn(2, 40, 3).double()
    found, wanted = (
        torch.autograd.grad((weights[0] * a + weights[1] * b).sum(), (theta, x)) for a, b in ((y, log_slope), expected)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-9)


def test_numbers_of_zero_make_the_identity():
    x = torch.linspace(-5, 5, 101).double()
    y, log_slope = made().forward(x, torch.zeros(101, 3 * K - 1).double())
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x))


def test_bins_meet_in_values_and_slopes():
    theta = numbers(1)
    x = torch.linspace(-BOUND - 0.5, BOUND + 0.5, 200_001).double()
    y, log_slope = made().forward(x, theta.expand(len(x), -1))
    step = float(x[1] - x[0])
    assert (y.diff() > 0).all()
    assert (y.diff() < 1.1 * log_slope.exp().max() * step).all()  # no jumps
    torch.testing.assert_close(y.diff() / step, (0.5 * (log_slope[1:] + log_slope[:-1])).exp(), rtol=0.02, atol=1e-3)
    assert (y[x.abs() > BOUND] == x[x.abs() > BOUND]).all()
    # slopes are 1 at the ends, so that the identity goes on smoothly
    assert log_slope[(x.abs() - BOUND).abs() < 2 * step].abs().max() < 1e-3


def test_the_very_edges_of_bins_are_hit():
    sizes = (2 * BOUND * torch.zeros(1, K).softmax(-1)).cumsum(-1) - BOUND
    x = torch.cat((torch.tensor([[-BOUND]]), sizes), 1)[0]
    theta = torch.cat((torch.zeros(K), numbers(1, dtype=torch.float32)[0, K:]))
    y, log_slope = made().forward(x, theta.expand(len(x), -1))
    assert y.isfinite().all()
    torch.testing.assert_close(made().inverse(y, theta.expand(len(x), -1))[0], x, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_slope[1:-1], theta[2 * K :] / (1 + (theta[2 * K :] / 6.907755).abs()))


def test_single_precision_inverts():
    theta, x = numbers(20_000, dtype=torch.float32), 2 * torch.randn(20_000)
    y, log_slope = made().forward(x, theta)
    back, log_slope_back = made().inverse(y, theta)
    assert ((back - x).abs() < 5e-6 * (1 + (-log_slope).exp())).all()  # where it is flat, y tells less of x
    torch.testing.assert_close(log_slope_back, -log_slope, rtol=0, atol=1e-3)


def test_steep_and_flat_splines_stay_finite_in_single_precision():
    # in a flat bin rounding makes the square in the root negative, and zuko's inverse not a number
    theta, z = numbers(20_000, scale=30.0, dtype=torch.float32).requires_grad_(), 2 * torch.randn(20_000)
    z = made().forward(z, theta)[0].detach()
    assert not theirs(theta).inv(z).isfinite().all()
    x, log_slope = made().inverse(z, theta)
    (gradient,) = torch.autograd.grad(x.sum() + log_slope.sum(), theta)
    for found in (x, log_slope, gradient):
        assert found.isfinite().all()
    assert (x.abs() <= (1 + 1e-5) * z.abs().clamp(min=BOUND)).all()
