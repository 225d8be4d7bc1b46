"""Normalising flows: densities by the change of variables, and which direction is the cheap one."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.distributions import Normal

from lightning_gen.distributions import AutoregressiveFlow, InverseAutoregressiveFlow, RealNVPFlow
from lightning_gen.errors import UserError

F, B = 3, 2
KINDS = [AutoregressiveFlow, RealNVPFlow, InverseAutoregressiveFlow]


def made(kind, dim, features=None, transforms=3, width=8):
    """A layer of float64 that is far from the identity."""
    torch.manual_seed(0)
    layer = kind(dim, features, transforms=transforms, hidden_features=(width,)).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(1.5)
    return layer


def count_passes(layer):
    """A list that grows by one whenever a network of the layer is evaluated."""
    calls = []
    for step in layer.transform.transforms:
        getattr(step, "transform", step).hyper.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("dim", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_density_is_the_change_of_variables(kind, dim):
    layer = made(kind, dim, F)
    h = torch.randn(B, F).double()
    q = layer(h)
    epsilon = q.base.sample()
    z = q.generated(epsilon)
    slopes = jacobian(lambda e: layer(h).generated(e).sum(0), epsilon).transpose(0, 1)  # rows are independent
    expected = q.base.log_prob(epsilon) - torch.linalg.slogdet(slopes)[1]
    torch.testing.assert_close(q.log_prob(z), expected)  # remembered
    torch.testing.assert_close(layer(h).log_prob(z), expected)  # by inversion


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(kind):
    p = made(kind, 2)()
    z = p.sample((2000,))
    centre, half = z.mean(0), 4 * (z - z.mean(0)).abs().max(0).values
    line = torch.linspace(-1, 1, 801).double()
    grid = centre + half * torch.cartesian_prod(line, line)
    with torch.no_grad():
        total = p.log_prob(grid).exp().sum() * (half * (line[1] - line[0])).prod()
    assert total == pytest.approx(1.0, abs=2e-3)


def test_the_base_of_a_posterior_depends_on_the_features():
    layer = made(InverseAutoregressiveFlow, 2, F)
    base = layer(torch.randn(B, F).double()).base
    assert (base.base_dist.loc[0] != base.base_dist.loc[1]).all()
    assert isinstance(base.base_dist, Normal)
    assert (made(RealNVPFlow, 2, F)(torch.randn(B, F).double()).base.mean == 0).all()


def test_an_inverse_flow_samples_and_knows_its_density_in_one_pass():
    layer = made(InverseAutoregressiveFlow, 4, F, transforms=2)
    calls, q = count_passes(layer), layer(torch.randn(B, F).double())
    z = q.rsample((5,))
    known = q.log_prob(z)
    assert len(calls) == 2
    torch.testing.assert_close(q.log_prob(z.clone()), known)
    assert len(calls) > 2 * 4


@pytest.mark.parametrize(("kind", "passes"), [(AutoregressiveFlow, 4), (RealNVPFlow, 2)])
def test_other_flows_have_densities_in_one_pass(kind, passes):
    layer = made(kind, 4)
    calls = count_passes(layer)
    layer().log_prob(torch.randn(5, 4).double())
    assert len(calls) == 3
    layer().transform.inv(torch.randn(5, 4).double())
    assert len(calls) == 3 + 3 * passes


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_remembered_has_the_gradient_of_what_is_computed(kind):
    layer = made(kind, 3, F)
    q = layer(torch.randn(B, F).double())
    z = q.rsample((4,))
    weights = torch.randn(4, B).double()
    parameters = list(layer.parameters())
    known = torch.autograd.grad((weights * q.log_prob(z)).sum(), parameters, retain_graph=True)
    computed = torch.autograd.grad((weights * q.log_prob(z.clone())).sum(), parameters)
    torch.testing.assert_close(known, computed)


def test_samples_without_a_gradient_have_densities_with_one():
    layer = made(RealNVPFlow, 3, F)
    q = layer(torch.randn(B, F).double())
    z = q.sample((4,))
    assert not z.requires_grad
    assert q.log_prob(z).requires_grad
    z = q.rsample((4,))
    with torch.no_grad():
        assert not q.log_prob(z).requires_grad


def test_coefficients_depend_on_the_coordinates_before():
    layer = made(AutoregressiveFlow, 4, transforms=1, width=64)
    slopes = jacobian(lambda z: layer().transform(z), torch.randn(4).double())
    assert (slopes.triu(1) == 0).all()
    assert (slopes.tril() != 0).sum() == 10
    halves = jacobian(lambda z: made(RealNVPFlow, 4, transforms=1, width=64)().transform(z), torch.randn(4).double())
    assert ((halves != 0) == torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]).bool()).all()


def test_what_stands_for_a_flow_is_its_centre():
    layer = made(InverseAutoregressiveFlow, 3, F)
    q = layer(torch.randn(B, F).double())
    torch.testing.assert_close(layer.mean(q), q.transform.inv(q.base.mean))
    assert layer.mean(q).shape == (B, 3)


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, lightning_gen.distributions; sys.exit('zuko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_checked(kind):
    make = partial(kind, 2)
    with pytest.raises(UserError, match=rf"{kind.__name__}.transforms is 0"):
        make(transforms=0)
    with pytest.raises(UserError, match=rf"{kind.__name__}.hidden_features is \[\]"):
        make(hidden_features=())
