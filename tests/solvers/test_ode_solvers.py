"""Solvers of equal steps: their order, the direction of time, and what they cost."""

from itertools import pairwise

import pytest
import torch
from ode_problems import points, turned, turning

from lightning_gen.errors import UserError
from lightning_gen.samplers import Sampler
from lightning_gen.solvers import RK4, DormandPrince, Euler, Heun, Midpoint, ODESolver
from lightning_gen.solvers.base import Counted

ORDERS = {Euler: 1, Midpoint: 2, Heun: 2, RK4: 4}


@pytest.mark.parametrize("kind", ORDERS)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.2, 0.1)])
def test_errors_fall_with_the_order(kind, start, end):
    x = points()
    errors = [(kind(steps)(turning, x, start, end) - turned(x, start, end)).abs().max() for steps in (16, 32, 64)]
    orders = [torch.log2(a / b).item() for a, b in pairwise(errors)]
    assert orders[-1] == pytest.approx(ORDERS[kind], abs=0.2)


@pytest.mark.parametrize("kind", ORDERS)
def test_evaluations_are_as_many_as_told(kind):
    solver, velocity = kind(3), Counted(turning)
    solver(velocity, points(), 0.0, 1.0)
    assert velocity.evaluations == solver.num_evaluations


@pytest.mark.parametrize("solver", [Euler(4), Midpoint(4), Heun(4), RK4(4), DormandPrince()])
def test_samples_are_solved_apart_whatever_their_shape(solver):
    images = points(6).view(3, 1, 2, 2)

    def velocity(x, t):
        assert t.shape == (len(x),)
        return x * t.view(-1, 1, 1, 1)

    whole = solver(velocity, images, 0.0, 1.0)
    for i in range(3):
        torch.testing.assert_close(solver(velocity, images[i : i + 1], 0.0, 1.0), whole[i : i + 1], rtol=0, atol=1e-14)
    assert solver(velocity, images[:0], 0.0, 1.0).shape == (0, 1, 2, 2)


@pytest.mark.parametrize("solver", [Euler(4), Midpoint(4), Heun(4), RK4(4), DormandPrince()])
def test_gradients_go_through(solver):
    rate = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    x = torch.ones(2, 1, dtype=torch.float64)
    found = solver(lambda x, t: rate * x, x, 0.0, 1.0).sum()
    (slope,) = torch.autograd.grad(found, rate)
    step = 1e-6
    ends = [solver(lambda x, t, r=r: r * x, x, 0.0, 1.0).sum() for r in (0.3 - step, 0.3 + step)]
    assert slope.item() == pytest.approx(((ends[1] - ends[0]) / (2 * step)).item(), rel=1e-4)


def test_they_are_samplers_of_a_kind_of_their_own():
    assert issubclass(ODESolver, Sampler)
    assert issubclass(Euler, ODESolver)


def test_no_steps_are_refused():
    with pytest.raises(UserError, match=r"Euler.steps is 0"):
        Euler(0)
