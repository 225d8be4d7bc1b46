"""Masked flows: what depends on what, the cost of the inverse, and zuko's values."""

import sys
from pathlib import Path

import pytest
import torch
from torch.autograd.functional import jacobian

from lightning_gen.bijections import IAF, MAF, AutoregressiveSpline
from lightning_gen.bijections.masked import MaskedLayer

sys.path.append(str(Path(__file__).parent))
from vector_bijections import far

D, F = 6, 3


def wide(kind, **options):
    torch.manual_seed(0)
    return far(kind((D,), F, **{"transforms": 1, "hidden_features": (64,)} | options))


def data(num=5):
    torch.manual_seed(1)
    return torch.randn(num, D).double(), torch.randn(num, F).double()


@pytest.mark.parametrize("kind", [MAF, AutoregressiveSpline])
def test_entries_depend_on_those_before_and_on_all_of_them(kind):
    f, (x, h) = wide(kind), data(1)
    slopes = jacobian(lambda v: f(v, h)[0][0], x)[:, 0]
    assert (slopes.triu(1) == 0).all()
    assert (slopes.tril() != 0).sum() == D * (D + 1) // 2
    assert (jacobian(lambda v: f(x, v)[0][0], h) != 0).all()  # each on every feature


def test_the_inverse_flow_is_fast_the_other_way():
    f, (z, h) = wide(IAF), data(1)
    slopes = jacobian(lambda v: f.inverse(v, h)[0][0], z)[:, 0]
    assert (slopes.triu(1) == 0).all()
    maf = wide(MAF)
    maf.load_state_dict(f.state_dict())
    for found, expected in zip(f.inverse(z, h), maf(z, h), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_random_order_is_triangular_in_that_order():
    f, (x, h) = wide(MAF, permutation_seed=3), data(1)
    order = f.layers.steps[0].places.argsort()
    slopes = jacobian(lambda v: f(v, h)[0][0], x)[:, 0][order][:, order]
    assert (slopes.triu(1) == 0).all()
    assert not torch.equal(order, torch.arange(D))


@pytest.mark.parametrize("kind", [MAF, AutoregressiveSpline])
@pytest.mark.parametrize("hidden", [(3,), (16,), (2, 9, 5)])
def test_the_inverse_is_that_of_evaluating_the_network_for_each_entry(kind, hidden):
    f, (z, h) = wide(kind, hidden_features=hidden, permutation_seed=2), data()
    (layer,) = f.layers.steps
    assert isinstance(layer, MaskedLayer)
    x = torch.zeros_like(z)
    for _ in range(D):  # each pass makes one entry more right
        numbers = layer.network(torch.cat((x, h), 1)).unflatten(1, (D, -1))
        x, _ = layer.univariate.inverse(z, numbers)
    torch.testing.assert_close(f.inverse(z, h)[0], x, rtol=1e-10, atol=1e-10)


def test_the_inverse_evaluates_each_unit_once():
    (layer,) = wide(MAF, hidden_features=(16, 8)).layers.steps
    for k, units in enumerate((16, 8, 2 * D)):
        found = [step[k].units for step in layer.steps]
        assert found[0].start == 0
        assert [s.stop for s in found[:-1]] == [s.start for s in found[1:]]
        assert found[-1].stop == units


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "theirs"), [(MAF, "MAF"), (AutoregressiveSpline, "NSF")])
def test_values_are_zukos(kind, theirs):
    import zuko

    ours = far(kind((D,), F, transforms=3, hidden_features=(8, 7)))
    flow = getattr(zuko.flows, theirs)(D, F, transforms=3, hidden_features=(8, 7)).double()
    ours_by_name = dict(ours.named_parameters())
    theirs_by_name = dict(flow.transform.named_parameters())
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in flow.parameters())
    with torch.no_grad():
        for name, p in theirs_by_name.items():  # transforms.0.hyper.2.weight
            _, k, _, rest = name.split(".", 3)
            p.copy_(ours_by_name[f"layers.steps.{k}.network.{rest}"])
    x, h = data()
    z, log_det = ours(x, h)
    expected, log_det_expected = flow.transform(h).call_and_ladj(x)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(log_det, log_det_expected)
    torch.testing.assert_close(ours.inverse(expected, h)[0], flow.transform(h).inv(expected))
