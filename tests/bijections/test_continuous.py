"""Continuous flows: a linear field in closed form, zuko's, autograd, and solvers that cannot do what is asked."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.bijections import Compose, ContinuousFlow, ConvField, MLPField, Squeeze, VectorField
from lightning_gen.errors import UserError
from lightning_gen.solvers import RK4, DormandPrince, HutchinsonDivergence

NARROW = partial(MLPField, width=6, depth=2)


def flow(shape=(3,), num_features=None, **options):
    torch.manual_seed(0)
    return ContinuousFlow(shape, num_features, **{"field": NARROW} | options).double().eval()


def rows(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def log_det(function, x, h):
    found = []
    for k in range(len(x)):
        given = None if h is None else h[k : k + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, c=given: function(v[None], c)[0][0].flatten(), x[k])
        found.append(torch.linalg.slogdet(jacobian.flatten(1))[1])
    return torch.stack(found)


class Linear(VectorField):
    """v = A x, whose flow is exp(A) x."""

    def __init__(self, sample_shape, num_features=None):
        super().__init__(sample_shape, num_features)
        self.matrix = nn.Parameter(torch.tensor([[0.3, -1.0, 0.2], [0.7, -0.5, 0.1], [0.0, 0.4, 0.9]]))

    def forward(self, x, t, h=None):
        return x @ self.matrix.mT


@pytest.mark.parametrize("solver", [RK4(20), DormandPrince(1e-8, 1e-8)], ids=["fixed", "adaptive"])
def test_a_linear_field_has_a_closed_form(solver):
    bijection = flow(field=Linear, solver=solver)
    x = rows(4, 3)
    z, log_dets = bijection(x)
    matrix = bijection.field.matrix.detach()
    torch.testing.assert_close(z, x @ torch.linalg.matrix_exp(matrix).mT, rtol=0, atol=1e-6)
    torch.testing.assert_close(log_dets, matrix.trace().expand(4), rtol=0, atol=1e-6)
    back, log_dets = bijection.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(log_dets, -matrix.trace().expand(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(bijection.samples(z), back, rtol=0, atol=1e-6)


CASES = {
    "vectors": ((3,), None, NARROW),
    "vectors, conditional": ((3,), 2, NARROW),
    "images": ((2, 2, 1), None, partial(ConvField, width=3, depth=1)),
    "images, conditional": ((1, 2, 2), 2, partial(ConvField, width=3, depth=1)),
    "images as vectors": ((1, 2, 2), None, NARROW),
}


@pytest.mark.parametrize("name", CASES)
def test_inverse_and_jacobian(name):
    shape, num_features, field = CASES[name]
    bijection = flow(shape, num_features, field=field, solver=RK4(8))
    x, h = rows(2, *shape), None if num_features is None else rows(2, num_features, seed=2)
    z, forward = bijection(x, h)
    assert z.shape == x.shape
    assert not torch.allclose(z, x, atol=1e-2)
    torch.testing.assert_close(forward, log_det(bijection, x, h), rtol=0, atol=2e-5)
    back, backward = bijection.inverse(z, h)
    torch.testing.assert_close(back, x, rtol=0, atol=2e-5)
    torch.testing.assert_close(backward, -forward, rtol=0, atol=2e-5)
    torch.testing.assert_close(backward, log_det(bijection.inverse, z, h), rtol=0, atol=2e-5)
    if h is not None:
        assert not torch.allclose(bijection(x, h + 1)[0], z)


def test_it_agrees_with_zuko():
    zuko = pytest.importorskip("zuko")
    bijection, x = flow(solver=RK4(20)), rows(5, 3)

    def velocity(t, x):
        return bijection.field(x, t.expand(len(x)))

    transform = zuko.transforms.FreeFormJacobianTransform(velocity, atol=1e-8, rtol=1e-8, exact=True)
    transform.trace_scale = 1.0
    with torch.no_grad():
        z, log_dets = transform.call_and_ladj(x)
    found, found_log_dets = bijection(x)
    torch.testing.assert_close(found, z, rtol=0, atol=1e-6)
    torch.testing.assert_close(found_log_dets, log_dets, rtol=0, atol=1e-6)


def test_the_inverse_is_off_by_the_fourth_power_of_the_step():
    x = rows(50, 3)
    errors = []
    for steps in (4, 8):
        bijection = flow(solver=RK4(steps))
        with torch.no_grad():
            for parameter in bijection.parameters():
                parameter.mul_(4)
            errors.append((bijection.samples(bijection(x)[0]) - x).abs().mean())
    assert 2**3.3 < errors[0] / errors[1] < 2**5.7


# -------------------------------------------------------------------- estimated divergences


def test_estimates_are_right_on_average_and_of_training_alone():
    bijection = flow((4,), divergence=HutchinsonDivergence(), solver=RK4(4))
    x = rows(1, 4)
    exact = bijection(x)[1]
    assert torch.equal(bijection(x)[1], exact)
    bijection.train()
    torch.manual_seed(0)
    with torch.no_grad():
        estimates = bijection(x.expand(4000, 4))[1]
    assert estimates.unique().numel() > 2
    torch.testing.assert_close(estimates.mean(), exact[0], rtol=0, atol=5 * float(estimates.std()) / math.sqrt(4000))
    torch.manual_seed(0)
    first = bijection(x)[1]
    torch.manual_seed(0)
    assert torch.equal(bijection(x)[1], first)


def test_the_determinant_is_the_same_in_inference_mode():
    bijection, x, h = flow((4,), 3), rows(5, 4), rows(5, 3)
    z, log_dets = bijection(x, h)
    assert log_dets.abs().min() > 1e-4
    with torch.inference_mode():
        found = bijection(x.clone(), h.clone())
    torch.testing.assert_close(found[0], z, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[1], log_dets, rtol=0, atol=1e-12)


def test_evaluation_may_take_shorter_steps():
    coarse, fine = flow(solver=RK4(1)), flow(solver=RK4(9))
    both, x = flow(solver=RK4(1), evaluation_solver=RK4(9)), rows(5, 3)
    assert torch.equal(both(x)[1], fine(x)[1])
    assert torch.equal(both.samples(x), fine.samples(x))
    assert torch.equal(both.train()(x)[1], coarse(x)[1])
    assert not torch.equal(coarse(x)[1], fine(x)[1])


@pytest.mark.parametrize("solver", [RK4(5), DormandPrince(1e-3, 1e-3)], ids=["fixed", "adaptive"])
def test_a_row_does_not_depend_on_the_others(solver):
    bijection, x = flow(solver=solver), rows(6, 3) * torch.tensor([0.1, 1, 3, 0.5, 2, 8])[:, None]
    z, log_dets = bijection(x)
    for part in (slice(0, 1), slice(2, 5)):
        torch.testing.assert_close(bijection(x[part])[0], z[part], rtol=0, atol=1e-11)
        torch.testing.assert_close(bijection(x[part])[1], log_dets[part], rtol=0, atol=1e-11)


# -------------------------------------------------------------------- training


@pytest.mark.parametrize("divergence", [None, HutchinsonDivergence()], ids=["exact", "estimated"])
def test_gradients_are_those_of_finite_differences(divergence):
    bijection = flow((2,), 1, field=partial(MLPField, width=3, depth=1), solver=RK4(3), divergence=divergence).train()
    x, h = rows(4, 2), rows(4, 1, seed=3)

    def loss():
        torch.manual_seed(0)
        z, log_dets = bijection(x, h)
        return (0.5 * z.square().sum(1) - log_dets).mean()

    loss().backward()
    for name, parameter in bijection.named_parameters():
        entry = parameter.view(-1)[0]
        with torch.no_grad():
            entry += 1e-5
            above = loss()
            entry -= 2e-5
            below = loss()
            entry += 1e-5
        torch.testing.assert_close(parameter.grad.view(-1)[0], (above - below) / 2e-5, rtol=1e-5, atol=1e-8, msg=name)


def test_sixteen_bits_around_it_change_nothing():
    bijection = flow(solver=RK4(3)).float()
    x = rows(3, 3).float()
    expected = bijection(x)
    with torch.autocast("cpu", torch.bfloat16):
        found = bijection(x)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_it_composes_with_other_bijections():
    torch.manual_seed(0)
    both = Compose(
        (1, 4, 4), None, [Squeeze, partial(ContinuousFlow, field=partial(ConvField, width=2, depth=1), solver=RK4(6))]
    )
    x = rows(2, 1, 4, 4).float()
    z, log_dets = both.eval()(x)
    assert z.shape == (2, 4, 2, 2)
    assert log_dets.shape == (2,)
    torch.testing.assert_close(both.samples(z), x, rtol=0, atol=1e-4)


# -------------------------------------------------------------------- what is refused


def test_a_tolerance_that_cannot_be_met_is_an_error():
    with pytest.raises(UserError, match=r"DormandPrince.rtol is 1e-06.* max_steps"):
        flow(solver=DormandPrince(1e-6, 1e-6, max_steps=2))(5 * rows(3, 3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ContinuousFlow((2,), field=ConvField), ("ConvField is for images", "[2]", "MLPField")),
        (lambda: MLPField((2,), width=0), ("MLPField.width is 0",)),
        (lambda: MLPField((2,), depth=0), ("MLPField.depth is 0",)),
        (lambda: ConvField((1, 2, 2), depth=0), ("ConvField.depth is 0",)),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with pytest.raises(UserError) as error:
        make()
    for word in words:
        assert word in str(error.value)


def test_what_it_is_approximated_by_is_told():
    assert flow(solver=RK4(3)).approximation == "RK4(steps=3)"
    assert flow(solver=RK4(3), evaluation_solver=RK4(9)).approximation == "RK4(steps=9)"
