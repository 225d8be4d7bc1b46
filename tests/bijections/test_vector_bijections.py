"""What every bijection of vectors keeps: both directions, determinants, gradients, precision, orders, checkpoints."""

import copy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_gen.bijections import IAF, MAF, NICE, AutoregressiveSpline, Bijection, NeuralSpline, RealNVP
from lightning_gen.errors import UserError

sys.path.append(str(Path(__file__).parent))
from vector_bijections import FACTORIES, LEARNT, far, slogdet

F, B = 3, 4
SHAPES = [(2,), (5,), (1, 2, 2)]
CASES = [
    (name, shape, features, seed)
    for name, factory in FACTORIES.items()
    for shape in SHAPES
    for features in (None, F)
    for seed in ((None, 5) if name in {kind.__name__ for kind in LEARNT} else (None,))
]


def made(name, shape, features=None, seed=None):
    torch.manual_seed(0)
    options = {} if seed is None else {"permutation_seed": seed}
    return far(FACTORIES[name](shape, features, **options))


def batch(shape, features=None, num=B):
    torch.manual_seed(1)
    x = 2 * torch.rand(num, *shape).double() - 1  # where there is a logit
    return x, None if features is None else torch.randn(num, features).double()


@pytest.mark.parametrize(("name", "shape", "features", "seed"), CASES)
def test_inverse_and_determinants_are_right(name, shape, features, seed):
    f, (x, h) = made(name, shape, features, seed), batch(shape, features)
    z, log_det = f(x, h)
    assert z.shape == (B, *f.latent_shape)
    assert log_det.shape == (B,)
    back, log_det_back = f.inverse(z, h)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(f.samples(z, h), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det, slogdet(lambda v: f(v, h)[0], x), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(log_det_back, slogdet(lambda v: f.inverse(v, h)[0], z), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [MAF, IAF, AutoregressiveSpline])
@pytest.mark.parametrize("features", [None, F])
def test_one_entry_is_enough_for_autoregressive_flows(kind, features):
    f, (x, h) = made(kind.__name__, (1,), features), batch((1,), features)
    z, log_det = f(x, h)
    torch.testing.assert_close(f.inverse(z, h)[0], x, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_det, slogdet(lambda v: f(v, h)[0], x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", FACTORIES)
def test_no_samples_are_no_error(name):
    f, (x, h) = made(name, (1, 2, 2), F), batch((1, 2, 2), F, num=0)
    for direction in (f, f.inverse):
        y, log_det = direction(x, h)
        assert y.shape == (0, 1, 2, 2)
        assert log_det.shape == (0,)


@pytest.mark.parametrize("kind", LEARNT)
@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_every_parameter_gets_a_gradient_both_ways(kind, way):
    f, (x, h) = made(kind.__name__, (5,), F), batch((5,), F, num=64)
    y, log_det = getattr(f, way)(x, h)
    (y.square().sum() + log_det.sum()).backward()
    for name, parameter in f.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", LEARNT)
def test_both_ways_have_the_gradients_of_inverse_functions(kind):
    # of g(x; θ) = f⁻¹(f(x; θ); θ) = x: the derivative with respect to θ is 0
    f, (x, h) = made(kind.__name__, (5,), F), batch((5,), F)
    back, log_det_back = f.inverse(f(x, h)[0], h)
    total = f(x, h)[1] + log_det_back
    for value in (back.sin().sum(), total.sum()):
        gradients = torch.autograd.grad(value, list(f.parameters()), retain_graph=True, allow_unused=True)
        assert all(g is None or g.abs().max() < 1e-9 for g in gradients)


@pytest.mark.parametrize("kind", LEARNT)
def test_flows_start_nearly_as_the_identity(kind):
    torch.manual_seed(0)
    f = kind((5,), F, transforms=3, hidden_features=(16,))
    x, h = torch.randn(64, 5), torch.randn(64, F)
    z, log_det = f(x, h)
    assert 0 < (z - x).abs().max() < 0.2
    assert log_det.abs().max() < 0.2


@pytest.mark.parametrize("kind", LEARNT)
def test_numbers_have_32_bits_whatever_is_around(kind):
    torch.manual_seed(0)
    f, (x, h) = far(kind((5,), F, transforms=3, hidden_features=(16,))).float(), batch((5,), F)
    plain = f(x.float(), h.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = f(x.bfloat16().float(), h.float())
        assert f(x.bfloat16(), h.bfloat16())[0].dtype == torch.float32
        back = f.inverse(plain[0], h.float())
    torch.testing.assert_close(mixed, f(x.bfloat16().float(), h.float()))
    torch.testing.assert_close(back, f.inverse(plain[0], h.float()))


# -------------------------------------------------------------------- orders


@pytest.mark.parametrize("kind", LEARNT)
def test_orders_are_a_function_of_the_seed(kind):
    def state(seed):
        torch.manual_seed(0)
        f = kind((9,), transforms=4, hidden_features=(4,), permutation_seed=seed)
        return {k: v for k, v in f.state_dict().items() if not v.is_floating_point() and v.dtype != torch.bool}

    first, again, other = state(3), state(3), state(4)
    assert first
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("kind", LEARNT)
def test_orders_come_from_the_checkpoint(kind):
    torch.manual_seed(0)
    options = {"transforms": 3, "hidden_features": (8, 7)}
    saved, loaded = (far(kind((6,), F, **options, permutation_seed=seed)) for seed in (1, 2))
    loaded.load_state_dict(copy.deepcopy(saved.state_dict()))
    x, h = batch((6,), F)
    z = saved(x, h)[0]
    torch.testing.assert_close(loaded(x, h)[0], z)
    torch.testing.assert_close(loaded.inverse(z, h)[0], x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [RealNVP, NeuralSpline])
def test_couplings_change_every_entry_in_two_layers(kind):
    for seed in (None, 0, 1):
        f = far(kind((7,), transforms=2, hidden_features=(5,), permutation_seed=seed))
        x, _ = batch((7,))
        assert (f(x)[0] != x).all()


# -------------------------------------------------------------------- zuko


def test_zuko_leaves_the_validation_of_torch_alone():
    code = """
import sys, torch
import lightning_gen.bijections as b
assert 'zuko' not in sys.modules
b.MAF((2,))
assert 'zuko' in sys.modules
try:
    torch.distributions.Normal(0.0, -1.0)
except ValueError:
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 7


# -------------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", LEARNT)
def test_numbers_are_checked(kind):
    make = partial(kind, (4,))
    with pytest.raises(UserError, match=rf"{kind.__name__}.transforms is 0"):
        make(transforms=0)
    for widths in ((), (4, 0)):
        with pytest.raises(UserError, match=rf"{kind.__name__}.hidden_features is \["):
            make(hidden_features=widths)


@pytest.mark.parametrize("kind", [NeuralSpline, AutoregressiveSpline])
def test_splines_are_checked(kind):
    with pytest.raises(UserError, match=rf"{kind.__name__}.bins is 1"):
        kind((4,), bins=1)
    with pytest.raises(UserError, match=rf"{kind.__name__}.bound is 0"):
        kind((4,), bound=0)


@pytest.mark.parametrize("kind", [NICE, RealNVP, NeuralSpline])
def test_one_entry_cannot_be_split(kind):
    with pytest.raises(UserError, match=rf"{kind.__name__} splits samples in two.*\[1\].*MAF"):
        kind((1,))


def test_all_are_bijections():
    assert all(isinstance(made(name, (2,)), Bijection) for name in FACTORIES)
