import mpmath
import numpy as np
import pytest
import torch
from scipy.special import exp1, gammaln, ive

from lightning_gen.distributions.special import bessel_ratio, log_bessel, log_scaled_exp1, tail_moments, unit_interval

EPS = {torch.float32: 2e-6, torch.float64: 2e-12}
both = pytest.mark.parametrize("dtype", EPS)


def exact(x: float) -> tuple[float, float]:
    """Log e^x E₁(x) and its derivative."""
    with mpmath.workdps(40):
        f = mpmath.exp(x) * mpmath.e1(x)
        return float(mpmath.log(f)), float(1 - 1 / (x * f))


@both
def test_scaled_exponential_integral_and_its_gradient(dtype):
    a = torch.logspace(-12, 2.7, 60, dtype=torch.float64).to(dtype).requires_grad_()
    found = log_scaled_exp1(a)
    (gradient,) = torch.autograd.grad(found.sum(), a)
    expected = np.array([exact(float(x)) for x in a.detach()])
    np.testing.assert_allclose(found.detach(), expected[:, 0], rtol=EPS[dtype], atol=EPS[dtype])
    np.testing.assert_allclose(gradient, expected[:, 1], rtol=3 * EPS[dtype])
    x = a.detach().double().numpy()
    np.testing.assert_allclose(found.detach(), np.log(exp1(x)) + x, rtol=1e-5)


@both
def test_scaled_exponential_integral_of_large_numbers(dtype):
    a = torch.logspace(2.5, 6, 20, dtype=torch.float64).to(dtype).requires_grad_()
    found, x = log_scaled_exp1(a), a.detach().double()
    (gradient,) = torch.autograd.grad(found.sum(), a)
    series = sum((-1) ** k * np.prod(np.arange(1.0, k + 1)) / x**k for k in range(6))
    np.testing.assert_allclose(found.detach(), (series / x).log(), rtol=max(EPS[dtype], 1e-10))
    np.testing.assert_allclose(gradient, -1 / x + 1 / x**2 - 3 / x**3, rtol=max(EPS[dtype], 1e-6))


def test_exponential_integral_twice_differentiable():
    a = torch.tensor([1e-3, 0.5, 0.999, 1.001, 3.0, 40.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(log_scaled_exp1, a)


@both
@pytest.mark.parametrize("order", [0, 0.5, 1, 3.5, 15, 19.5, 20, 63, 255])
def test_bessel_function_is_scipys(dtype, order):
    x = torch.logspace(-3, 5, 40, dtype=torch.float64).to(dtype).requires_grad_()
    found, ratio = log_bessel(order, x), bessel_ratio(order, x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    at = x.detach().double().numpy()
    below, above = ive(order, at), ive(order + 1, at)
    known = above > 1e-290  # scipy's numbers underflow, these do not
    assert known.sum() > 15
    expected = np.log(below[known]) - order * np.log(at[known] / 2) + gammaln(order + 1)
    np.testing.assert_allclose(found.detach()[known], expected, rtol=EPS[dtype], atol=100 * EPS[dtype])
    np.testing.assert_allclose(ratio.detach()[known], above[known] / below[known], rtol=100 * EPS[dtype])
    np.testing.assert_allclose(gradient[known] + 1, above[known] / below[known], atol=100 * EPS[dtype])


def test_bessel_function_near_zero():
    x = torch.tensor([0.0, 1e-20, 1e-6], dtype=torch.float64, requires_grad=True)
    found, ratio = log_bessel(3, x), bessel_ratio(3, x)
    torch.testing.assert_close(found, -x.detach() + x.detach() ** 2 / 16, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(ratio.sum(), x)[0], torch.full_like(x, 1 / 8))  # x/2(ν + 1)


@both
def test_moments_of_pieces_of_normals(dtype):
    for a in (0.0, 0.3, 2.0, 30.0, 1e4):
        for width in (1e-5, 0.1, 2.0, 1e15):
            end = min(width, 200 / (a + (a * a + 200) ** 0.5))
            found = tail_moments(torch.tensor(a, dtype=dtype), torch.tensor(width, dtype=dtype))
            for j, moment in enumerate(found):
                edges = [0, end / 8, end / 3, end]
                expected = mpmath.quad(lambda s, a=a, j=j: s**j * mpmath.exp(-a * s - s * s / 2), edges)
                assert float(moment) == pytest.approx(float(expected), rel=EPS[dtype])


def test_moments_of_nothing_and_their_gradients():
    a, width = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.3, 0.0))
    mass, first, second = tail_moments(a, width)
    assert (mass.item(), first.item(), second.item()) == (0, 0, 0)
    assert torch.autograd.grad(mass, width)[0].item() == pytest.approx(1)
    wide = torch.tensor([0.2, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: torch.stack(tail_moments(*x)), (a, wide))


def test_nodes_made_in_inference_mode_pass_gradients():
    like = torch.tensor(2.0, requires_grad=True)
    with torch.inference_mode():
        unit_interval(7, torch.float32, torch.device("cpu"))
    x, weights = unit_interval(7, torch.float32, torch.device("cpu"))
    (like * x**2 * weights).sum().backward()
    assert like.grad.item() == pytest.approx(1 / 3, rel=1e-6)
