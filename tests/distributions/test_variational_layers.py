"""What every variational layer keeps, as prior and as posterior."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_gen.distributions import (
    AutoregressiveFlow,
    DiagonalLaplace,
    DiagonalNormal,
    FullNormal,
    GumbelSoftmax,
    InverseAutoregressiveFlow,
    LowRankNormal,
    NormalMixture,
    RealNVPFlow,
    StandardLaplace,
    StandardNormal,
    StraightThroughCategorical,
    UniformCategorical,
    VampPrior,
)
from lightning_gen.errors import UserError

D, F, B, S = 3, 4, 5, 2
LEARNT = [
    DiagonalNormal,
    LowRankNormal,
    FullNormal,
    DiagonalLaplace,
    NormalMixture,
    AutoregressiveFlow,
    RealNVPFlow,
    InverseAutoregressiveFlow,
    GumbelSoftmax,
    StraightThroughCategorical,
]
FIXED = [StandardNormal, StandardLaplace, UniformCategorical]
WAITING = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_linalg_check_errors"}


def vamp_prior(latent_dim):
    prior, layer = VampPrior(latent_dim, sample_shape=[F], num_components=3), DiagonalNormal(latent_dim, F)
    prior.bind(lambda u: layer.to(u.dtype)(u))
    return prior


PRIORS = [*LEARNT, *FIXED, vamp_prior]


def check(layer, h, batch, dtype=torch.float32):
    """Shapes and types of all that a distribution gives; its samples and their log-probabilities."""
    distribution = layer(h)
    assert distribution.batch_shape == batch
    assert distribution.event_shape == (layer.sample_dim,)
    z = distribution.rsample((S,))
    log_prob = distribution.log_prob(z)
    assert z.shape == (S, *batch, layer.sample_dim)
    assert log_prob.shape == (S, *batch)
    assert layer.mean(distribution).shape == (*batch, layer.sample_dim)
    assert z.dtype == log_prob.dtype == layer.mean(distribution).dtype == dtype
    assert distribution.log_prob(torch.randn(S, B, layer.sample_dim, dtype=dtype)).shape == (S, B)
    return z, log_prob


@pytest.mark.parametrize("make", PRIORS)
def test_a_prior(make):
    torch.manual_seed(0)
    layer = make(D)
    _, log_prob = check(layer, None, ())
    if list(layer.parameters()):
        log_prob.sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
        assert sum(p.grad.abs().sum() for p in layer.parameters()) > 0
    check(layer.double(), None, (), torch.float64)


@pytest.mark.parametrize("make", LEARNT)
def test_a_posterior(make):
    torch.manual_seed(0)
    layer, h = make(D, F), torch.randn(B, F, requires_grad=True)
    z, log_prob = check(layer, h, (B,))
    (z.square().sum() + log_prob.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in layer.parameters())
    assert (h.grad.abs().sum(1) > 0).all()
    check(layer.double(), h.detach().double(), (B,), torch.float64)


@pytest.mark.parametrize("make", LEARNT)
def test_a_sample_depends_on_its_own_features_alone(make):
    torch.manual_seed(0)
    layer, h = make(D, F).double(), torch.randn(B, F).double().requires_grad_()
    z = layer.eval()(h.detach()).sample()
    (layer(h).log_prob(z)[2]).backward()
    assert (h.grad.abs().sum(1) > 0).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("make", LEARNT)
def test_a_copy_is_the_same_and_its_own(make):
    layer = make(D, F)
    twin, h = copy.deepcopy(layer), torch.randn(B, F)
    z = layer(h).sample()
    assert torch.equal(twin(h).log_prob(z), layer(h).log_prob(z.clone()))
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(2.0)
    assert not torch.equal(twin(h).log_prob(z), layer(h).log_prob(z.clone()))
    other = make(D, F)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(h).log_prob(z), layer(h).log_prob(z.clone()))


@pytest.mark.parametrize("make", PRIORS)
def test_densities_do_not_lose_digits_under_autocast(make):
    torch.manual_seed(0)
    layer = make(D)
    if make is vamp_prior:
        return  # its encoder is meant to be computed in 16 bits
    z = layer(None).sample((7,))
    expected = layer(None).log_prob(z.clone())
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(None).log_prob(z.clone())
        again = layer(None).rsample((7,))
        assert again.dtype == layer(None).log_prob(again).dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", LEARNT)
def test_posteriors_are_of_32_bits_under_autocast(make):
    torch.manual_seed(0)
    layer, encoder = make(D, F), torch.nn.Linear(F, F)
    with torch.autocast("cpu", torch.bfloat16):
        h = encoder(torch.randn(B, F))
        assert h.dtype == torch.bfloat16
        z, log_prob = check(layer, h, (B,))
    (z.sum() + log_prob.sum()).backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("make", LEARNT)
def test_no_step_waits_for_the_device(make):
    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.add(func._schema.name.removeprefix("aten::"))
            return func(*args, **(kwargs or {}))

    names: set[str] = set()
    layer, prior, h = make(D, F), make(D), torch.randn(B, F)
    with Recorded():
        q = layer(h)
        z = q.rsample((S,))
        (q.log_prob(z) - prior().log_prob(z)).sum().backward()
    assert len(names) > 5
    assert not names & WAITING


@pytest.mark.parametrize("make", [*LEARNT, StandardNormal])
def test_there_is_at_least_one_variable(make):
    with pytest.raises(UserError, match="latent_dim is 0"):
        make(0)


@pytest.mark.parametrize("make", FIXED)
def test_fixed_layers_take_no_features(make):
    with pytest.raises(UserError, match=f"{make.__name__} does not depend on features"):
        make(D, F)


@pytest.mark.parametrize("make", [DiagonalNormal, LowRankNormal, FullNormal, NormalMixture])
@pytest.mark.parametrize("most", [-20.0, -21.0])
def test_bounds_that_leave_no_room_are_refused(make, most):
    with pytest.raises(UserError, match=rf"{make.__name__}\.max_log_variance is {most}: it must be above -20"):
        make(D, F, max_log_variance=most)
    with pytest.raises(UserError, match=r"DiagonalLaplace\.max_log_scale is 3"):
        DiagonalLaplace(D, F, min_log_scale=3.0 + max(most + 20, 0), max_log_scale=3.0)
