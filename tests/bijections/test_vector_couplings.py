"""Coupling flows: what is given and what is changed, NICE's volume, and a density that integrates to one."""

import sys
from pathlib import Path

import pytest
import torch
from torch.autograd.functional import jacobian

from lightning_gen.bijections import NICE, NeuralSpline, RealNVP

sys.path.append(str(Path(__file__).parent))
from vector_bijections import far


@pytest.mark.parametrize("kind", [RealNVP, NeuralSpline])
def test_odd_entries_are_given_first_then_even_ones(kind):
    torch.manual_seed(0)
    x = torch.randn(5).double()
    first = far(kind((5,), transforms=1, hidden_features=(32,)))
    slopes = jacobian(lambda v: first(v[None])[0][0], x)
    given = torch.tensor([1, 0, 1, 0, 1]).bool()  # even places are 0, 2, 4
    expected = torch.eye(5).bool() | (~given[:, None] & given)
    assert ((slopes != 0) == expected).all()
    assert (slopes[given][:, given] == torch.eye(3)).all()


def test_additive_couplings_keep_volumes_and_the_scale_changes_it_everywhere_alike():
    f = far(NICE((4,), transforms=4, hidden_features=(8,)))
    x = torch.randn(6, 4).double()
    torch.testing.assert_close(f(x)[1], f.log_scale.sum().expand(6))
    assert (f.log_scale != 0).all()


@pytest.mark.parametrize("kind", [NICE, RealNVP, NeuralSpline])
def test_the_density_integrates_to_one(kind):
    f = far(kind((2,), transforms=3, hidden_features=(6,)), scale=0.15)
    line = torch.linspace(-9, 9, 401).double()
    with torch.no_grad():
        z, log_det = f(torch.cartesian_prod(line, line))
        log_p = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det
    assert log_det.std() > 0 or kind is NICE
    assert float(log_p.exp().sum() * (line[1] - line[0]) ** 2) == pytest.approx(1.0, abs=1e-3)
