"""Samplers of diffusion models against Gaussian data, for which denoisers, flows and marginals are known.

A sampler with a linear denoiser maps its noise linearly to samples. Where each draw is a basis vector of its own, what
comes out are the coefficients of these draws, and the sum of their squares is the variance: exact, without sampling.
"""

import copy
import math
from itertools import pairwise

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.samplers.diffusion import (
    DDIM,
    DDPM,
    DPMSolverPlusPlus,
    Euler,
    Heun,
    SDEDPMSolverPlusPlus,
)
from lightning_gen.schedules import ContinuousLinearBeta, CosineBeta, LinearBeta, VarianceExploding, ZeroTerminalSNR

SCHEDULES = {"linear": LinearBeta(), "continuous": ContinuousLinearBeta(), "exploding": VarianceExploding(0.01, 20.0)}
CHURN = Heun(40, S_churn=20.0, S_min=0.1, S_max=10.0)
STOCHASTIC = {
    "ddpm": DDPM(40),
    "ddpm_small": DDPM(40, variance=0.0),
    "ddim_eta": DDIM(40, eta=0.7),
    "heun_churn": CHURN,
    "sde": SDEDPMSolverPlusPlus(40),
}
DETERMINISTIC = {"ddim": DDIM(40), "euler": Euler(40), "heun": Heun(40), "dpm": DPMSolverPlusPlus(40)}
ALL = STOCHASTIC | DETERMINISTIC


class Basis:
    """Noise of which each draw is the next basis vector."""

    def __init__(self, size=400):
        self.size, self.count = size, 0

    def normal(self, *shape, dtype=torch.float64):
        drawn = torch.zeros(1, self.size, dtype=dtype)
        drawn[0, self.count] = 1
        self.count += 1
        return drawn


def denoiser(schedule, std, mean=0.0, seen=None):
    """E[x_0 | x_t] of data from N(mean, std²)."""

    def denoise(x, t):
        alpha, sigma = (value.view(-1, *[1] * (x.ndim - 1)) for value in schedule(t))
        if seen is not None:
            seen.append((float(alpha[0]), float(sigma[0]), x))
        return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)

    return denoise


def variance(sampler, schedule, std):
    noise = Basis()
    return float(sampler(denoiser(schedule, std), schedule, noise.normal(), noise).square().sum())


def latents(n=6, *shape):
    return Noise(sample_seeds(3, torch.arange(n))).normal(*(shape or (3,)), dtype=torch.float64)


# -------------------------------------------------------------------- the flow


@pytest.mark.parametrize("make", [Euler, Heun, DPMSolverPlusPlus])
@pytest.mark.parametrize("name", SCHEDULES)
def test_errors_fall_with_the_order_of_the_method(make, name):
    schedule, std, z = SCHEDULES[name], 0.5, latents()
    errors = []
    for steps in (80, 160):
        low, high = make(steps).ends(schedule)
        # dx/ds = (x − D)/s of x/α in s = σ/α keeps x / √(std² + s²); then one step to the denoised sample
        flow = math.sqrt((std**2 + low**2) / (std**2 + high**2)) * std**2 / (std**2 + low**2)
        exact = make(steps).levels(schedule)[0].ratio * flow * z
        found = make(steps)(denoiser(schedule, std), schedule, z, None)
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 0.05
    assert errors[0] / errors[1] == pytest.approx(2 if make is Euler else 4, rel=0.1)


def test_heun_is_algorithm_2():
    schedule, std, z, steps = VarianceExploding(0.01, 20.0), 0.6, latents(), 12
    sampler = Heun(steps, rho=5.0, S_churn=8.0, S_min=0.05, S_max=5.0, S_noise=1.1)
    noise, denoise = (Noise(sample_seeds(1, torch.arange(6))) for _ in range(2)), denoiser(schedule, std)
    mine, theirs = noise
    i = torch.arange(steps, dtype=torch.float64)
    sigmas = (20 ** (1 / 5) + i / (steps - 1) * (0.01 ** (1 / 5) - 20 ** (1 / 5))) ** 5
    sigmas = [*sigmas.tolist(), 0.0]
    x = sigmas[0] * z
    for here, there in pairwise(sigmas):
        gamma = min(8.0 / steps, math.sqrt(2) - 1) if 0.05 <= here <= 5.0 else 0.0
        hat = here * (1 + gamma)
        if gamma:
            x = x + math.sqrt(hat**2 - here**2) * 1.1 * theirs.normal(3, dtype=torch.float64)
        d = (x - denoise(x, torch.full((6,), hat, dtype=torch.float64))) / hat
        moved = x + (there - hat) * d
        if there:
            again = (moved - denoise(moved, torch.full((6,), there, dtype=torch.float64))) / there
            moved = x + (there - hat) * (d + again) / 2
        x = moved
    torch.testing.assert_close(sampler(denoise, schedule, z, mine), x, rtol=1e-9, atol=1e-9)


def test_dpm_solver_is_algorithm_2_of_its_paper():
    schedule, z = ContinuousLinearBeta(), latents()
    sampler, denoise = DPMSolverPlusPlus(9), denoiser(schedule, 0.7)
    *levels, clean = sampler.levels(schedule)
    assert clean == (0.0, 1.0, 0.0)
    x, before, lambdas = levels[0].sigma * z, None, [math.log(level.alpha / level.sigma) for level in levels]
    for i in range(1, len(levels)):
        here, there, h = levels[i - 1], levels[i], lambdas[i] - lambdas[i - 1]
        d = denoise(x, torch.full((6,), here.t, dtype=torch.float64))
        mixed = d
        if before is not None:
            r = (lambdas[i - 1] - lambdas[i - 2]) / h
            mixed = (1 + 1 / (2 * r)) * d - 1 / (2 * r) * before
        x, before = there.sigma / here.sigma * x - there.alpha * (math.exp(-h) - 1) * mixed, d
    x = denoise(x, torch.full((6,), levels[-1].t, dtype=torch.float64))
    torch.testing.assert_close(sampler(denoise, schedule, z, None), x)


def test_ddim_is_euler_at_other_levels(monkeypatch):
    schedule, z = LinearBeta(), latents()
    euler = Euler(20)
    monkeypatch.setattr(euler, "times", DDIM(20).times)
    expected = DDIM(20)(denoiser(schedule, 0.5), schedule, z, None)
    torch.testing.assert_close(euler(denoiser(schedule, 0.5), schedule, z, None), expected)


# -------------------------------------------------------------------- marginals


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", ALL)
def test_every_sampler_gives_samples_of_the_right_variance(kind, name):
    sampler = copy.copy(ALL[kind])
    sampler.steps = 300
    assert variance(sampler, SCHEDULES[name], 0.5) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("kind", sorted(STOCHASTIC.keys() - {"ddpm"}))  # whose noise is that of data from N(0, I)
@pytest.mark.parametrize("name", SCHEDULES)
def test_marginals_are_exact_for_a_single_point(kind, name):
    # its denoiser says the same at all times, and q(x_s | x_t, x_0) is then the true reverse of the noise
    schedule, noise, seen = SCHEDULES[name], Basis(), []
    STOCHASTIC[kind](denoiser(schedule, 0.0, seen=seen), schedule, noise.normal(), noise)
    for _, sigma, x in seen:
        assert float(x.square().sum()) == pytest.approx(sigma**2, rel=1e-6)
    assert noise.count > 10


def test_ancestral_marginals_are_exact_for_standard_normal_data():
    schedule, noise, seen = LinearBeta(), Basis(), []
    DDPM(200)(denoiser(schedule, 1.0, seen=seen), schedule, noise.normal(), noise)
    assert len(seen) == 200
    for _, _, x in seen:
        assert float(x.square().sum()) == pytest.approx(1, abs=5e-5)  # which starts at σ_T² = 1 − 4e-5


def test_samples_of_a_point_are_the_point():
    for schedule in SCHEDULES.values():
        for sampler in ALL.values():
            found = sampler(denoiser(schedule, 0.0, mean=0.3), schedule, latents(), Noise(torch.arange(6)))
            torch.testing.assert_close(found, torch.full_like(found, 0.3), rtol=1e-9, atol=1e-9)


def test_ddim_with_all_its_noise_is_ancestral():
    for schedule in SCHEDULES.values():
        a, b = (
            sampler(denoiser(schedule, 0.5), schedule, latents(), Noise(torch.arange(6)))
            for sampler in (DDIM(30, eta=1.0), DDPM(30, variance=0.0))
        )
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("v", [0.0, 0.4, 1.0])
def test_the_noise_of_a_ddpm_step_is_that_of_its_paper(v):
    betas = torch.linspace(1e-3, 0.1, 200, dtype=torch.float64)
    bars = (1 - betas).cumprod(0)
    share = (1 - betas[1:]).sqrt() * (1 - bars[:-1]) / (1 - bars[1:])  # of x_k in the mean of x_{k−1} (eq. 7)
    small = betas[1:] * (1 - bars[:-1]) / (1 - bars[1:])
    noise, seen = Basis(), []
    DDPM(variance=v)(lambda x, t: seen.append(x) or 0 * x, LinearBeta(200, 1e-3, 0.1), noise.normal(), noise)
    # x_1 holds the noise of steps 200 … 2, times the shares of the steps after each
    after = torch.cat((torch.ones(1, dtype=torch.float64), share[:-1].cumprod(0)))
    expected = (betas[1:] ** v * small ** (1 - v)).sqrt() * after
    torch.testing.assert_close(seen[-1][0, 1:200], expected.flip(0), rtol=1e-6, atol=1e-12)


# -------------------------------------------------------------------- levels


def test_levels_of_karras():
    levels = Heun(18).levels(VarianceExploding())
    sigmas = [level.sigma for level in levels]
    assert sigmas[0] == pytest.approx(80)
    assert sigmas[-2:] == pytest.approx([0.002, 0])
    roots = torch.tensor(sigmas[:-1]).pow(1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(17), rtol=1e-3, atol=0)


def test_levels_may_be_narrowed():
    levels = DPMSolverPlusPlus(5, sigma_min=0.05, sigma_max=50.0).levels(LinearBeta())
    assert levels[0].ratio == pytest.approx(50)
    assert levels[-2].ratio == pytest.approx(0.05)
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1) for level in levels)


def test_levels_of_steps_include_both_ends():
    times = [level.t for level in DDIM(5).levels(LinearBeta())]
    assert times == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.001, 0.0])
    assert [level.t for level in DDPM().levels(LinearBeta())] == pytest.approx([k / 1000 for k in range(1000, -1, -1)])
    assert [level.t for level in DDIM(1).levels(LinearBeta())] == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("kind", ALL)
def test_evaluations_are_counted(kind):
    schedule, seen = LinearBeta(), []
    noise = Basis()
    ALL[kind](denoiser(schedule, 0.5, seen=seen), schedule, noise.normal(), noise)
    assert len(seen) == ALL[kind].num_evaluations(schedule) == (79 if "heun" in kind else 40)
    assert all(0 < t <= 1 for t, _, _ in seen)


def test_all_steps_unless_told():
    assert DDPM().num_evaluations(LinearBeta()) == 1000
    assert DDPM(7).num_evaluations(LinearBeta()) == 7


@pytest.mark.parametrize("make", [DDPM, DDIM, Euler, DPMSolverPlusPlus])
def test_more_evaluations_than_steps_are_refused(make):
    make(1000).check(LinearBeta())
    make(1001).check(VarianceExploding())
    with pytest.raises(UserError, match=r"steps is 1001, which takes 1001 evaluations .* only 1000 steps"):
        make(1001).check(LinearBeta())


def test_heun_evaluates_twice_a_step():
    Heun(500).check(LinearBeta())
    with pytest.raises(UserError, match="steps is 501, which takes 1001 evaluations"):
        Heun(501).check(LinearBeta())


# -------------------------------------------------------------------- no signal at the end


def test_a_schedule_without_signal_at_its_end():
    schedule = ZeroTerminalSNR(LinearBeta())
    for sampler in (DDIM(50), DDPM(50), DDIM(50, eta=0.5), Heun(30, sigma_max=80.0)):
        found = sampler(denoiser(schedule, 0.5, mean=0.3), schedule, latents(400), Noise(torch.arange(400)))
        assert found.isfinite().all()
        assert found.mean() == pytest.approx(0.3, abs=0.06)
        assert found.std() == pytest.approx(0.5, abs=0.1)
    with pytest.raises(UserError, match="sigma_max is unset, but ZeroTerminalSNR ends without any signal"):
        Heun(30).check(schedule)
    Heun(30).check(CosineBeta())


# -------------------------------------------------------------------- a sample and its stream


@pytest.mark.parametrize("kind", STOCHASTIC)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_sample_depends_on_its_stream_alone(kind, name):
    schedule, z, seeds = SCHEDULES[name], latents(), sample_seeds(5, torch.arange(6))

    def draw(rows):
        return STOCHASTIC[kind](denoiser(schedule, 0.5), schedule, z[rows], Noise(seeds[rows]))

    whole = draw(torch.arange(6))
    assert torch.equal(draw(torch.arange(6)), whole)
    order = torch.tensor([4, 0, 5])
    torch.testing.assert_close(draw(order), whole[order], rtol=0, atol=1e-12)
    other = STOCHASTIC[kind](denoiser(schedule, 0.5), schedule, z, Noise(seeds + 1))
    assert (other - whole).abs().min(dim=1).values.min() > 1e-6


@pytest.mark.parametrize("kind", DETERMINISTIC)
def test_deterministic_samplers_leave_the_noise_alone(kind):
    schedule = LinearBeta()
    found = DETERMINISTIC[kind](denoiser(schedule, 0.5), schedule, latents(), None)
    assert found.shape == (6, 3)


def test_any_shape_and_dtype():
    for sampler in ALL.values():
        for shape in ((2,), (1, 4, 4), (3, 2, 2, 2)):
            z = Noise(torch.arange(2)).normal(*shape)
            found = sampler(denoiser(LinearBeta(), 0.5), LinearBeta(), z, Noise(torch.arange(2)))
            assert found.shape == (2, *shape)
            assert found.dtype == torch.float32


def test_clipping_bounds_what_the_denoiser_says():
    schedule, z = LinearBeta(), latents(200)
    free = DDIM(20)(denoiser(schedule, 1.0), schedule, z, None)
    clipped = DDIM(20, clip=1.0)(denoiser(schedule, 1.0), schedule, z, None)
    assert free.abs().max() > 1.5
    assert clipped.abs().max() <= 1
    inside = free.abs() < 0.5
    torch.testing.assert_close(clipped[inside], free[inside], rtol=0.2, atol=0.1)
    wide = DDIM(20, clip=100.0)(denoiser(schedule, 1.0), schedule, z, None)
    assert torch.equal(wide, free)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: DDIM(0), "DDIM.steps is 0"),
        (lambda: DDIM(eta=1.5), "DDIM.eta is 1.5"),
        (lambda: DDIM(clip=0.0), "DDIM.clip is 0"),
        (lambda: DDPM(variance=-0.1), "DDPM.variance is -0.1"),
        (lambda: Heun(rho=0.5), "Heun.rho is 0.5"),
        (lambda: Heun(S_churn=-1.0), "Heun.S_churn is -1"),
        (lambda: DDPM().check(VarianceExploding()), "DDPM.steps is unset, but VarianceExploding is continuous"),
        (lambda: Euler(sigma_max=1e4).check(LinearBeta()), "Euler.sigma_max is 10000.0: LinearBeta goes from 0.01"),
        (lambda: Euler(sigma_min=2.0, sigma_max=1.0).check(LinearBeta()), "sigma_min is 2, not below sigma_max, 1"),
    ],
)
def test_bad_numbers_are_refused(make, told):
    with pytest.raises(UserError, match=told):
        make()
