"""Divergences against whole Jacobians, and volumes against autograd and closed forms."""

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.solvers import RK4, DormandPrince, ExactDivergence, HutchinsonDivergence, solve_with_log_det


@pytest.fixture
def velocity():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4)).double()

    def field(x, t):
        return layers(torch.cat((x.flatten(1), t[:, None]), 1)).view_as(x)

    field.layers = layers
    return field


@pytest.fixture
def x():
    return torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


T = torch.linspace(0, 1, 6, dtype=torch.float64)


def noise(n, seed=0):
    return Noise(sample_seeds(seed, torch.arange(n)))


def jacobians(velocity, x, t):
    rows = [
        torch.autograd.functional.jacobian(lambda z, i=i: velocity(z[None], t[i : i + 1])[0], x[i])
        for i in range(len(x))
    ]
    return torch.stack(rows).view(len(x), 4, 4)


def test_the_divergence_is_the_trace_of_the_jacobian(velocity, x):
    with torch.no_grad():
        v, trace = ExactDivergence()(velocity, x, T, [])
        expected = velocity(x, T)
    torch.testing.assert_close(v, expected)
    torch.testing.assert_close(trace, jacobians(velocity, x, T).diagonal(dim1=1, dim2=2).sum(1))
    assert not v.requires_grad
    assert not trace.requires_grad


def test_hutchinsons_estimate_has_the_right_mean(velocity, x):
    one = x[:1].expand(4000, -1, -1, -1)
    divergence = HutchinsonDivergence(2)
    found = divergence(velocity, one, T[:1].expand(4000), divergence.probes(one, noise(4000)))[1]
    jacobian = jacobians(velocity, x[:1], T[:1])[0]
    assert abs(found.mean() - jacobian.trace()) < 5 * found.std() / 4000**0.5
    # of entries ±1, the variance is that of the off-diagonal entries, halved by two probes
    symmetric = (jacobian + jacobian.T) / 2
    expected = 2 * (symmetric.square().sum() - symmetric.diagonal().square().sum()) / 2
    assert found.var().item() == pytest.approx(expected.item(), rel=0.15)


def test_probes_are_signs_of_each_samples_stream(x):
    divergence = HutchinsonDivergence(3)
    probes = divergence.probes(x, noise(6))
    assert len(probes) == 3
    assert all(probe.shape == x.shape for probe in probes)
    assert {value.item() for value in torch.stack(probes).unique()} == {-1.0, 1.0}
    alone = divergence.probes(x[2:3], Noise(sample_seeds(0, torch.arange(2, 3))))
    assert all(torch.equal(a, b[2:3]) for a, b in zip(alone, probes, strict=True))
    torch.manual_seed(0)
    assert not torch.equal(divergence.probes(x, None)[0], divergence.probes(x, None)[0])


@pytest.mark.parametrize("divergence", [ExactDivergence(), HutchinsonDivergence(2)])
def test_divergences_can_be_learnt_from(velocity, x, divergence):
    probes = divergence.probes(x, noise(6))

    def total():
        v, trace = divergence(velocity, x, T, probes)
        return trace.sum() + v.square().sum()

    weight = velocity.layers[0].weight
    (slope,) = torch.autograd.grad(total(), weight)
    step = torch.randn_like(weight) * 1e-5
    with torch.no_grad():
        weight += step
        up = total()
        weight -= 2 * step
        down = total()
    assert ((up - down) / 2).item() == pytest.approx((slope * step).sum().item(), rel=1e-4)


def test_a_velocity_of_time_alone_changes_no_volume(x):
    field = lambda x, t: t.view(-1, 1, 1, 1).expand_as(x)  # noqa: E731
    for divergence in (ExactDivergence(), HutchinsonDivergence()):
        trace = divergence(field, x, T, divergence.probes(x, noise(6)))[1]
        assert torch.equal(trace, torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("solver", [RK4(12), DormandPrince(1e-8, 1e-8)])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_determinant_is_that_of_the_solution(velocity, x, solver, start, end):
    with torch.no_grad():
        found, log_det = solve_with_log_det(solver, velocity, ExactDivergence(), x, start, end)

    def solved(z):
        return solver(velocity, z[None], start, end)[0]

    torch.testing.assert_close(found, torch.stack([solved(z) for z in x]).detach(), rtol=0, atol=2e-6)
    expected = [torch.autograd.functional.jacobian(solved, z).view(4, 4).slogdet()[1] for z in x]
    torch.testing.assert_close(log_det, torch.stack(expected), rtol=0, atol=2e-6)


def test_going_back_undoes_both(velocity, x):
    with torch.no_grad():
        solver = DormandPrince(1e-10, 1e-10)
        there, log_det = solve_with_log_det(solver, velocity, ExactDivergence(), x, 0.0, 1.0)
        back, undone = solve_with_log_det(solver, velocity, ExactDivergence(), there, 1.0, 0.0)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(undone, -log_det, rtol=0, atol=1e-8)


def test_the_determinants_error_counts_by_itself():
    # x hardly moves, its volume does; among many entries of x the determinant's error would go under
    def shear(x, t):
        return 1e-4 * torch.sin(3e4 * x + 9 * t[:, None])

    class First(ExactDivergence):  # only the first entry moves the others' way
        def trace(self, v, x, probes, learns):
            return x.shape[1] * super().trace(v[:, :1], x, probes, learns)

    x = torch.zeros(1, 200, dtype=torch.float64)
    with torch.no_grad():
        _, log_det = solve_with_log_det(DormandPrince(1e-6, 1e-6), shear, First(), x, 0.0, 1.0)
        _, exact = solve_with_log_det(RK4(100), shear, First(), x, 0.0, 1.0)
    torch.testing.assert_close(log_det, exact, rtol=1e-5, atol=0)


def test_no_probe_is_refused():
    with pytest.raises(UserError, match="num_probes is 0"):
        HutchinsonDivergence(0)
