"""Kernels and the maximum mean discrepancy: by hand, and of Gaussians in closed form."""

import numpy as np
import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.losses.divergences import (
    RBF,
    InverseMultiquadric,
    maximum_mean_discrepancy,
)

KERNELS = [RBF(), RBF([0.5, 2.0]), InverseMultiquadric(), InverseMultiquadric([1.0])]


def points(n, d=3, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_their_formula(kernel):
    a, b = points(4), points(5, seed=1)
    found = kernel(a, b)
    for i in range(4):
        for j in range(5):
            squared = float(((a[i] - b[j]) ** 2).sum())
            lengths = [2 * 3 * scale for scale in kernel.scales]
            if isinstance(kernel, RBF):
                expected = np.mean([np.exp(-squared / length) for length in lengths])
            else:
                expected = np.mean([length / (length + squared) for length in lengths])
            assert found[i, j].item() == pytest.approx(expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_unbiased_estimate_leaves_out_the_diagonal(kernel):
    a, b = points(4), points(5, seed=1) + 1
    kaa, kbb, kab = (k.numpy() for k in (kernel(a, a), kernel(b, b), kernel(a, b)))
    within = [np.mean([k[i, j] for i in range(len(k)) for j in range(len(k)) if i != j]) for k in (kaa, kbb)]
    assert maximum_mean_discrepancy(a, b, kernel).item() == pytest.approx(sum(within) - 2 * kab.mean())


def test_gaussians_have_the_closed_form():
    d, shift, scale, length = 3, 0.7, 1.4, 6.0  # N(0, I) and N(shift, scale² I) under exp(−‖·‖² / length)

    def expected_kernel(variance, distance):
        return (1 + 2 * variance / length) ** (-d / 2) * np.exp(-d * distance**2 / (length + 2 * variance))

    exact = expected_kernel(2, 0) + expected_kernel(2 * scale**2, 0) - 2 * expected_kernel(1 + scale**2, shift)
    pairs = [(points(50, seed=2 * i), points(50, seed=2 * i + 1)) for i in range(100)]
    draws = [maximum_mean_discrepancy(a, shift + scale * b, RBF()).item() for a, b in pairs]
    assert abs(np.mean(draws) - exact) < 4.5 * np.std(draws) / 10
    equal = [maximum_mean_discrepancy(a, b, RBF()).item() for a, b in pairs]
    assert abs(np.mean(equal)) < 4.5 * np.std(equal) / 10
    assert np.mean(draws) > 4.5 * np.std(draws) / 10


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_finite_and_right_where_points_coincide(kernel):
    a = torch.cat((points(2), points(2))).requires_grad_()
    b = torch.cat((points(1), points(3, seed=1)))
    assert torch.autograd.gradcheck(
        lambda x: maximum_mean_discrepancy(x, b, kernel), points(4, seed=2).requires_grad_()
    )
    gradient = torch.autograd.grad(maximum_mean_discrepancy(a, b, kernel), a)[0]
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient[0], gradient[2])


def test_half_precision_is_not_kept():
    x = points(8, dtype=torch.float32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        k = RBF()(x, x)
    assert k.dtype == torch.float32
    torch.testing.assert_close(k, RBF()(x.float(), x.float()))


def test_wrong_arguments_are_named():
    for scales in ([], [1.0, 0.0], [-1.0]):
        with pytest.raises(UserError, match=r"RBF\.scales"):
            RBF(scales)
    with pytest.raises(UserError, match="at least 2"):
        maximum_mean_discrepancy(points(1), points(4), RBF())
