"""Solvers that choose their steps: tolerances that are kept, or refused."""

import pytest
import torch
from ode_problems import points, turned, turning

from lightning_gen.errors import UserError
from lightning_gen.solvers import DormandPrince, TorchDiffEq
from lightning_gen.solvers.base import Counted


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize(("start", "end"), [(0.0, 2.0), (2.0, 0.0), (-1.0, 1.5)])
def test_errors_are_about_the_tolerance(tolerance, start, end):
    x = points()
    error = (DormandPrince(tolerance, tolerance)(turning, x, start, end) - turned(x, start, end)).abs().max()
    assert error < 20 * tolerance


def logistic(x, t):
    return x * (1 - x)


def test_its_step_has_order_five():
    # one step of a given length, without looking at its error; its own error is one order higher
    x, t, errors = torch.tensor([[0.2], [0.6]], dtype=torch.float64), torch.zeros(2, dtype=torch.float64), []
    for h in (0.8, 0.4, 0.2):
        step = torch.full_like(t, h)
        found, slope, estimate = DormandPrince(0, 1)._step(
            logistic, x, t, step, logistic(x, t), lambda e: e[:, 0].abs()
        )
        exact = x * torch.exp(step[:, None]) / (1 - x + x * torch.exp(step[:, None]))
        errors.append((found - exact).abs().sum())
        torch.testing.assert_close(slope, logistic(found, t))
        assert (estimate > (found - exact).abs()[:, 0]).all()
    assert torch.log2(errors[1] / errors[2]).item() == pytest.approx(6, abs=0.5)


def test_steps_are_those_of_each_sample():
    # one sample moves a hundred times as fast; the slow one must not notice
    x, rates = torch.ones(2, 1, dtype=torch.float64), torch.tensor([[1.0], [100.0]], dtype=torch.float64)
    solver = DormandPrince(1e-6, 1e-6)
    both = solver(lambda x, t: -rates * x, x, 0.0, 1.0)
    alone = solver(lambda x, t: -rates[:1] * x, x[:1], 0.0, 1.0)
    assert torch.equal(both[:1], alone)
    torch.testing.assert_close(both, torch.exp(-rates), rtol=0, atol=1e-5)


def test_it_takes_few_steps_where_nothing_happens():
    velocity = Counted(lambda x, t: torch.ones_like(x))
    found = DormandPrince()(velocity, points(), 0.0, 1.0)
    torch.testing.assert_close(found, points() + 1)
    assert velocity.evaluations < 30


def test_float32_works_to_its_digits():
    x = points(dtype=torch.float32)
    found = DormandPrince()(turning, x, 0.0, 2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, turned(x, 0.0, 2.0), rtol=0, atol=2e-4)


def test_the_norm_that_is_given_is_what_is_tolerated():
    loose = Counted(turning)
    DormandPrince(1e-8, 1e-8)(loose, points(), 0.0, 2.0, norm=lambda error: 1e-4 * error.abs().amax(1))
    strict = Counted(turning)
    DormandPrince(1e-8, 1e-8)(strict, points(), 0.0, 2.0)
    assert loose.evaluations < strict.evaluations


def steep(x, t):
    return 1 / (t[:, None] - 0.5).abs() + 0 * x


def square(x, t):
    return x * x


@pytest.mark.parametrize(
    ("velocity", "options"),
    [
        (turning, {"rtol": 1e-12, "atol": 1e-12, "max_steps": 5}),
        (steep, {}),  # no solution goes past t = ½
        (square, {}),  # 1/(1 − t), infinite at 1
        (lambda x, t: torch.full_like(x, torch.nan), {}),
    ],
    ids=["few_steps", "singular", "explodes", "not_finite"],
)
def test_a_tolerance_that_cannot_be_met_is_told(velocity, options):
    x = torch.ones(3, 2, dtype=torch.float64)
    with pytest.raises(UserError, match=r"DormandPrince.rtol is .* and atol .*3 of 3 samples.*max_steps") as error:
        DormandPrince(**options)(velocity, x, 0.0, 2.0)
    assert len(str(error.value)) < 300


def test_digits_that_floats_do_not_have_are_refused():
    with pytest.raises(UserError, match="rtol is 1e-12"):
        DormandPrince(1e-12, 1e-12, 100)(turning, points(dtype=torch.float32), 0.0, 2.0)


@pytest.mark.parametrize("options", [{"rtol": -1.0}, {"atol": 0.0}, {"max_steps": 0}])
def test_bad_arguments_are_refused(options):
    with pytest.raises(UserError, match=f"{next(iter(options))} is"):
        DormandPrince(**options)


# -------------------------------------------------------------------- the extra


@pytest.fixture
def torchdiffeq():
    return pytest.importorskip("torchdiffeq")


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "rk4", "heun3", "midpoint"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0)])
def test_torchdiffeq_solves_the_same(torchdiffeq, method, start, end):
    steps = {"rk4": 30, "heun3": 60, "midpoint": 200}.get(method)
    solver, velocity, x = TorchDiffEq(method, 1e-7, 1e-7, steps), Counted(turning), points()
    torch.testing.assert_close(solver(velocity, x, start, end), turned(x, start, end), rtol=0, atol=1e-4)
    if solver.num_evaluations is not None:
        assert velocity.evaluations == solver.num_evaluations
    assert solver(turning, x[:0], start, end).shape == (0, 2)


@pytest.mark.parametrize("velocity", [steep, lambda x, t: torch.full_like(x, torch.nan)])
def test_torchdiffeq_tells_what_it_cannot_meet(torchdiffeq, velocity):
    with pytest.raises(UserError, match=r"TorchDiffEq.rtol is 1e-05 and atol 1e-05.*steps = 50") as error:
        TorchDiffEq(steps=50)(velocity, torch.ones(3, 2), 0.0, 2.0)
    assert len(str(error.value)) < 300


def test_torchdiffeq_needs_its_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchdiffeq", None)
    with pytest.raises(UserError, match=r"pip install 'lightning_gen\[ode\]'"):
        TorchDiffEq()


def test_torchdiffeq_refuses_other_methods():
    with pytest.raises(UserError, match=r"TorchDiffEq.method is 'rk5'"):
        TorchDiffEq("rk5")
