"""Schedules against cumulative products, quadrature and their own inverse."""

import math

import pytest
import torch
from scipy.integrate import quad

from lightning_gen.errors import UserError
from lightning_gen.schedules import (
    ContinuousLinearBeta,
    CosineBeta,
    LinearBeta,
    LinearLogSNR,
    VarianceExploding,
    ZeroTerminalSNR,
)

PRESERVING = {
    "linear": LinearBeta(),
    "cosine": CosineBeta(),
    "zero": ZeroTerminalSNR(LinearBeta()),
    "continuous": ContinuousLinearBeta(),
    "log_snr": LinearLogSNR(),
}
ALL = PRESERVING | {"exploding": VarianceExploding()}


@pytest.fixture(params=ALL)
def schedule(request):
    return ALL[request.param]


def grid(schedule, n=101):
    return schedule.spread(torch.linspace(0, 1, n, dtype=torch.float64))


@pytest.mark.parametrize("name", PRESERVING)
def test_variance_is_preserved(name):
    alpha, sigma = PRESERVING[name](torch.linspace(1e-3, 1, 500, dtype=torch.float64))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=1e-12, atol=1e-12)


def test_noise_grows_with_time(schedule):
    log_snr = schedule.log_snr(grid(schedule))
    assert (log_snr.diff() < 0).all()
    alpha, sigma = schedule(grid(schedule))
    torch.testing.assert_close(log_snr, (alpha / sigma).square().log())


def test_times_are_found_from_noise_levels(schedule):
    t = grid(schedule)[:-1]  # a schedule without signal at its end has no level there
    alpha, sigma = schedule(t)
    torch.testing.assert_close(schedule.time_of(sigma / alpha), t, rtol=1e-9, atol=1e-9)
    between = (t[:-1] * t[1:]).sqrt()
    alpha, sigma = schedule(between)
    torch.testing.assert_close(schedule.time_of(sigma / alpha), between, rtol=1e-9, atol=1e-9)
    beyond = schedule.time_of(torch.tensor([1e-9, 1e12], dtype=torch.float64))
    assert beyond.tolist() == pytest.approx([schedule.first, schedule.last])


def test_the_spread_has_the_ends(schedule):
    ends = schedule.spread(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([schedule.first, schedule.last])


def test_float32_has_the_digits(schedule):
    t = grid(schedule, 21)[:-1]
    for exact, found in zip(schedule(t), schedule(t.float()), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=2e-4, atol=1e-7)


def test_linear_beta_is_a_cumulative_product():
    alpha, sigma = LinearBeta(200, 1e-3, 0.1)(torch.arange(1, 201, dtype=torch.float64) / 200)
    bars = (1 - torch.linspace(1e-3, 0.1, 200, dtype=torch.float64)).cumprod(0)
    torch.testing.assert_close(alpha, bars.sqrt())
    torch.testing.assert_close(sigma, (1 - bars).sqrt())


def test_without_noise_at_time_zero():
    for schedule in (LinearBeta(), CosineBeta(), ContinuousLinearBeta()):
        assert [float(value) for value in schedule(torch.tensor(0.0))] == [1.0, 0.0]


def test_cosine_beta_follows_its_formula_until_betas_are_bounded():
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    expected = torch.cos(math.pi / 2 * (t + 0.008) / 1.008) ** 2 / math.cos(math.pi / 2 * 0.008 / 1.008) ** 2
    alpha, _ = CosineBeta()(t)
    torch.testing.assert_close(alpha[:999] ** 2, expected[:999], rtol=1e-9, atol=1e-12)
    assert float(alpha[-1] ** 2 / alpha[-2] ** 2) == pytest.approx(1e-3)


@pytest.mark.parametrize("t", [0.01, 0.3, 1.0])
def test_continuous_linear_beta_is_an_integral(t):
    schedule = ContinuousLinearBeta()
    integral, _ = quad(lambda s: 0.1 + s * (20 - 0.1), 0, t)
    alpha, _ = schedule(torch.tensor(t, dtype=torch.float64))
    assert float(alpha) == pytest.approx(math.exp(-integral / 2), rel=1e-12)


def test_continuous_linear_beta_is_the_limit_of_many_steps():
    t = torch.linspace(0.1, 1, 10, dtype=torch.float64)
    many = LinearBeta(20_000, 0.1 / 20_000, 20 / 20_000)
    torch.testing.assert_close(many.log_alpha_bar(t), ContinuousLinearBeta().log_alpha_bar(t), rtol=2e-3, atol=0)


def test_log_snr_on_a_line():
    log_snr = LinearLogSNR(8.0, -6.0).log_snr(torch.linspace(0, 1, 15, dtype=torch.float64))
    torch.testing.assert_close(log_snr, torch.linspace(8, -6, 15, dtype=torch.float64))


def test_zero_terminal_snr_keeps_the_first_step_and_the_shape():
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    before, after = LinearBeta()(t)[0], ZeroTerminalSNR(LinearBeta())(t)[0]
    expected = (before - before[-1]) * before[0] / (before[0] - before[-1])
    torch.testing.assert_close(after, expected, rtol=1e-7, atol=2e-10)
    assert float(after[-1]) < 1e-9


def test_whole_steps_get_the_same_share_of_uniform_numbers():
    schedule = LinearBeta(40, 1e-3, 0.4)
    for dtype in (torch.float32, torch.float64):
        u = (torch.arange(400, dtype=dtype) + 0.5) / 400
        assert torch.bincount((schedule.spread(u) * 40).round().long()).tolist() == [0] + [10] * 40
        ends = torch.tensor([torch.finfo(dtype).tiny, 1 - torch.finfo(dtype).eps], dtype=dtype)
        assert (schedule.spread(ends) * 40).tolist() == pytest.approx([1, 40])
    evenly = schedule.spread(torch.linspace(1, 0, 40, dtype=torch.float64)) * 40
    assert evenly.round().tolist() == list(range(40, 0, -1))


def test_exploding_noise_is_its_time():
    schedule, t = VarianceExploding(0.01, 10.0), torch.tensor([0.01, 2.0, 10.0])
    alpha, sigma = schedule(t)
    assert alpha.tolist() == [1, 1, 1]
    assert torch.equal(sigma, t)
    torch.testing.assert_close(schedule.label(t), t.log() / 4)
    torch.testing.assert_close(schedule.spread(torch.tensor([0.5])), torch.tensor([0.1**0.5]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LinearBeta(100), "num_steps is 100, after which 0.6"),
        (lambda: LinearBeta(0), "num_steps is 0"),
        (lambda: LinearBeta(beta_end=1.0), "beta_end 1.0"),
        (lambda: LinearBeta(beta_start=0.1), "beta_start is 0.1"),
        (lambda: CosineBeta(largest_beta=1.0), "largest_beta is 1.0"),
        (lambda: CosineBeta(offset=-0.1), "offset is -0.1"),
        (lambda: ContinuousLinearBeta(beta_max=0.01), "beta_max is 0.01"),
        (lambda: ContinuousLinearBeta(first=0.0), "first is 0.0"),
        (lambda: LinearLogSNR(1.0, 2.0), "smallest is 2.0"),
        (lambda: VarianceExploding(1.0, 0.5), "sigma_max 0.5"),
        (lambda: ZeroTerminalSNR(CosineBeta(1)), "num_steps is 1"),
    ],
)
def test_bad_numbers_are_refused(make, told):
    with pytest.raises(UserError, match=told):
        make()


def test_what_validation_has_looked_up_can_be_trained_with():
    schedule, t = LinearBeta(), torch.tensor([0.2, 0.7])
    with torch.inference_mode():
        expected = schedule(t)[0].tolist()
    alpha, _ = schedule(t)
    weight = torch.ones(2, requires_grad=True)
    (alpha * weight).square().sum().backward()
    assert alpha.tolist() == expected
    torch.testing.assert_close(weight.grad, 2 * alpha**2)
