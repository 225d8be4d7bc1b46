"""Bijections of images: inverses, Jacobians by autograd, starts from data, and what is refused."""

import copy
import sys
from functools import partial
from pathlib import Path
from threading import Barrier, Thread, current_thread

import pytest
import torch
from torch import nn

from lightning_gen.bijections import Compose
from lightning_gen.bijections.image import (
    ActNorm,
    Additive,
    ChannelCoupling,
    ChannelPrior,
    CheckerboardCoupling,
    ExponentialAffine,
    Glow,
    InvertibleConvolution,
    LogisticMixture,
    MultiScaleRealNVP,
    ResidualNetwork,
    SigmoidAffine,
    Squeeze,
    TanhAffine,
    ThreeLayerNetwork,
    ZeroConvolution,
    actnorm,
)
from lightning_gen.errors import UserError

sys.path.append(str(Path(__file__).parent))
from image_checks import check, inputs, randomise

NARROW = partial(ThreeLayerNetwork, width=4)
RESIDUAL = partial(ResidualNetwork, width=4, depth=1)

PARTS = {
    "squeeze": (Squeeze, (3, 2, 4)),
    "actnorm": (ActNorm, (3, 2, 2)),
    "actnorm of vectors": (ActNorm, (5,)),
    "convolution": (InvertibleConvolution, (5, 2, 3)),
    "prior": (ChannelPrior, (3, 2, 2)),
    "channels": (partial(ChannelCoupling, network=NARROW), (4, 2, 3)),
    "channels, first half": (partial(ChannelCoupling, network=NARROW, flipped=True), (4, 2, 3)),
    "channels, odd": (partial(ChannelCoupling, network=NARROW, transform=TanhAffine), (3, 3, 2)),
    "channels, additive": (partial(ChannelCoupling, network=RESIDUAL, transform=Additive), (4, 2, 2)),
    "channels, exponential": (
        partial(ChannelCoupling, network=ZeroConvolution, transform=ExponentialAffine),
        (2, 3, 3),
    ),
    "channels, mixture": (partial(ChannelCoupling, network=NARROW, transform=LogisticMixture), (2, 2, 2)),
    "checkerboard": (partial(CheckerboardCoupling, network=RESIDUAL), (1, 3, 4)),
    "checkerboard, the other colour": (
        partial(CheckerboardCoupling, network=RESIDUAL, transform=SigmoidAffine, flipped=True),
        (2, 3, 2),
    ),
    "glow": (partial(Glow, levels=2, steps=2, network=NARROW), (1, 4, 8)),
    "glow, additive": (partial(Glow, levels=1, steps=1, network=NARROW, transform=Additive), (3, 2, 2)),
    "realnvp": (partial(MultiScaleRealNVP, scales=2, width=4, depth=1), (3, 2, 4)),
    "realnvp, one scale": (partial(MultiScaleRealNVP, scales=1, width=4, depth=0), (1, 3, 3)),
}


@pytest.mark.parametrize("num_features", [None, 2], ids=["alone", "conditional"])
@pytest.mark.parametrize("name", PARTS)
def test_inverse_and_jacobian(name, num_features):
    torch.manual_seed(0)
    make, shape = PARTS[name]
    check(randomise(make(shape, num_features)), num_features)


@pytest.mark.parametrize("name", ["prior", "channels", "checkerboard", "glow", "realnvp"])
def test_features_matter_and_get_gradients(name):
    torch.manual_seed(0)
    make, shape = PARTS[name]
    bijection = randomise(make(shape, 2)).double()
    x, h = inputs(shape, 2)
    h.requires_grad_()
    z, log_det = bijection(x, h)
    assert not torch.allclose(z, bijection(x, h + 1)[0])
    (z.square().sum() - log_det.sum()).backward()
    assert (h.grad != 0).all()
    for key, parameter in bijection.named_parameters():
        assert (parameter.grad != 0).any(), key


def test_halves_of_squeezed_channels_are_the_colours_of_a_chessboard():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    z, _ = Squeeze((1, 4, 4))(x)
    assert sorted(z[0, :2].flatten().tolist()) == [0, 2, 5, 7, 8, 10, 13, 15]
    assert z[0, :, 0, 1].tolist() == [2, 7, 3, 6]  # one square of two pixels' side


def test_squeezing_keeps_the_colours_of_a_pixel_together():
    x = torch.arange(12.0).view(1, 3, 2, 2)
    assert Squeeze((3, 2, 2))(x)[0].flatten().tolist() == [0, 4, 8, 3, 7, 11, 1, 5, 9, 2, 6, 10]


# -------------------------------------------------------------------- starts from data


def test_actnorm_starts_from_the_first_batch_of_training_alone():
    torch.manual_seed(0)
    actnorm, x = ActNorm((2, 3, 3)), torch.randn(64, 2, 3, 3) * torch.tensor([3.0, 0.2]).view(2, 1, 1) + 5
    z, log_det = actnorm.eval()(x)
    assert torch.equal(z, x)
    assert (log_det == 0).all()
    assert not actnorm.affine.started
    z, log_det = actnorm.train()(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.var((0, 2, 3), correction=0), torch.ones(2), rtol=1e-5, atol=0)
    torch.testing.assert_close(log_det, -9 * x.std((0, 2, 3), correction=0).log().sum().expand(64), rtol=1e-5, atol=0)
    assert actnorm.affine.started
    before = copy.deepcopy(actnorm.state_dict())
    actnorm(10 * x)
    assert all(torch.equal(value, before[key]) for key, value in actnorm.state_dict().items())


def test_processes_start_as_one_does_with_all_samples(monkeypatch):
    x = 3 * torch.randn(10, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + 5
    whole, parts, barrier, given = ActNorm((2, 3, 3)), [ActNorm((2, 3, 3)) for _ in range(2)], Barrier(2), {}

    def summed(value):
        given[current_thread()] = value
        barrier.wait()
        total = sum(given.values())
        barrier.wait()
        return total

    whole(x)
    monkeypatch.setattr(actnorm, "summed", summed)
    processes = [Thread(target=part, args=(rows,)) for part, rows in zip(parts, x.split([4, 6]), strict=True)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for part in parts:
        torch.testing.assert_close(part.state_dict(), whole.state_dict())


def test_actnorm_knows_from_its_state_whether_it_has_started():
    x = torch.randn(8, 2, 2, 2)
    started, fresh = ActNorm((2, 2, 2)), ActNorm((2, 2, 2))
    started(x)
    fresh.load_state_dict(started.state_dict())
    assert torch.equal(fresh(3 * x)[0], started(3 * x)[0])
    fresh.load_state_dict(ActNorm((2, 2, 2)).state_dict())
    assert not torch.equal(fresh(3 * x)[0], started(3 * x)[0])
    twin = copy.deepcopy(fresh)
    assert torch.equal(twin(x)[0], fresh(x)[0])


def test_channels_that_are_constant_keep_their_scale():
    x = torch.randn(8, 2, 2, 2)
    x[:, 1] = 3
    actnorm = ActNorm((2, 2, 2))
    assert (actnorm(x)[0][:, 1] == 0).all()
    assert actnorm.affine.log_scale[1] == 0


def test_a_whole_flow_starts_in_one_batch():
    torch.manual_seed(0)
    flow = Glow((1, 4, 4), levels=1, steps=3, network=NARROW)
    z, _ = flow(4 * torch.rand(512, 1, 4, 4) + 7)
    assert all(part.started for part in flow.modules() if hasattr(part, "started"))
    # couplings start as a scale of σ(2) of one half, behind the last normalisation
    torch.testing.assert_close(z.mean(), torch.tensor(0.0), rtol=0, atol=0.05)
    assert 0.7 < z.var() < 1.05


# -------------------------------------------------------------------- single parts


def test_the_convolution_is_that_of_a_random_rotation_at_first():
    torch.manual_seed(0)
    part = InvertibleConvolution((4, 3, 2)).double()
    x, _ = inputs((4, 3, 2))
    z, log_det = part(x)
    torch.testing.assert_close(z.square().sum(1), x.square().sum(1), rtol=1e-5, atol=0)
    torch.testing.assert_close(log_det, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-5)
    randomise(part)
    lower, upper = part.factors()
    weight = part.permutation @ lower @ upper
    expected = nn.functional.conv2d(x, weight[:, :, None, None])
    torch.testing.assert_close(part(x)[0], expected)
    torch.testing.assert_close(part(x)[1][0], 6 * torch.linalg.slogdet(weight)[1])


def test_the_split_prior_is_the_normal_density_it_stands_for():
    torch.manual_seed(0)
    part = randomise(ChannelCoupling((4, 2, 2), None, ZeroConvolution, ExponentialAffine)).double()
    x, _ = inputs((4, 2, 2))
    z, log_det = part(x)
    t, s = part.network(x[:, :2]).chunk(2, dim=1)
    expected = torch.distributions.Normal(-t, (-s).exp()).log_prob(x[:, 2:]).flatten(1).sum(1)
    found = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 2:]).flatten(1).sum(1) + log_det
    torch.testing.assert_close(found, expected)
    assert torch.equal(z[:, :2], x[:, :2])


@pytest.mark.parametrize("transform", [SigmoidAffine, TanhAffine, ExponentialAffine, Additive])
def test_couplings_change_one_part_by_the_other_alone(transform):
    torch.manual_seed(0)
    part = randomise(CheckerboardCoupling((1, 4, 4), None, RESIDUAL, transform)).double()
    x, _ = inputs((1, 4, 4), rows=1)
    jacobian = torch.autograd.functional.jacobian(lambda v: part(v)[0].flatten(), x).view(16, 16)
    kept = part.mask.flatten()
    assert torch.equal(jacobian[kept][:, kept], torch.eye(8, dtype=torch.float64))
    assert (jacobian[kept][:, ~kept] == 0).all()
    among_changed = jacobian[~kept][:, ~kept]
    assert torch.equal(among_changed, torch.diag(among_changed.diagonal()))
    assert (jacobian[~kept][:, kept] != 0).any()


def test_the_logistic_mixture_is_its_distribution_function():
    torch.manual_seed(0)
    part = LogisticMixture(1, 3).double()
    theta, x = 2 * torch.randn(5, 11, 2, 2, dtype=torch.float64), 3 * torch.randn(5, 1, 2, 2, dtype=torch.float64)
    y, log_slopes = part(x, theta)
    a, b, logits, means, log_widths = theta.split([1, 1, 3, 3, 3], dim=1)
    u = (x - means - torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1)) / log_widths.exp()
    distribution = (logits.softmax(1) * u.sigmoid()).sum(1, keepdim=True)
    torch.testing.assert_close(y, (distribution.logit() + b) * a.tanh().exp(), rtol=1e-6, atol=1e-6)
    x.requires_grad_()
    (slopes,) = torch.autograd.grad(part(x, theta)[0].sum(), x)
    torch.testing.assert_close(log_slopes, slopes.log())
    back, log_slopes_back = part.inverse(y, theta)
    torch.testing.assert_close(back, x.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(log_slopes_back, -log_slopes, rtol=0, atol=1e-8)
    far = torch.full((5, 1, 2, 2), 300.0, dtype=torch.float64)
    assert part(far, theta)[1].isfinite().all()
    torch.testing.assert_close(part.inverse(part(far, theta)[0], theta)[0], far)


def test_glow_is_the_identity_but_for_rotations_and_scales_at_first():
    torch.manual_seed(0)
    flow = Glow((1, 4, 4), levels=2, steps=1, network=NARROW).double().eval()
    x, _ = inputs((1, 4, 4))
    # one coupling scales half of the entries of each level: 8 of 16, then 4 of 8
    expected = 12 * torch.tensor(2.0, dtype=torch.float64).sigmoid().log()
    torch.testing.assert_close(flow(x)[1], expected.expand(3), rtol=0, atol=1e-5)


def test_parts_of_the_noise_leave_level_by_level():
    flow = Glow((1, 8, 8), levels=3, steps=1, network=NARROW)
    assert flow.sizes == [32, 16, 16]
    assert [level.latent_shape for level in flow.levels] == [(4, 4, 4), (8, 2, 2), (16, 1, 1)]
    assert MultiScaleRealNVP((3, 8, 4), scales=3, width=4, depth=0).sizes == [48, 24, 24]


def test_networks_of_realnvp_double_their_channels():
    flow = MultiScaleRealNVP((3, 32, 32), scales=2, width=64, depth=1)
    widths = [part.first.out_channels for part in flow.modules() if isinstance(part, ResidualNetwork)]
    assert widths == [64] * 3 + [128] * 3 + [128] * 4


def test_bf16_changes_networks_and_no_determinant():
    torch.manual_seed(0)
    flow = randomise(Glow((1, 4, 4), levels=2, steps=2, network=NARROW)).eval()
    x = torch.randn(3, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = flow(x)
        back, _ = flow.inverse(z)
    assert z.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(back, x, rtol=0, atol=1e-3)
    part = Compose((4, 2, 2), None, [ActNorm, InvertibleConvolution, ChannelPrior])
    x = torch.randn(3, 4, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = part(x)
    assert torch.equal(z, part(x)[0])


# -------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Glow((1, 28, 28), levels=3), ("Glow.levels is 3", "28×28", "levels 2", "multiples of 8")),
        (lambda: Glow((1, 7, 8), levels=1), ("Glow.levels is 1", "7×8", "multiples of 2")),
        (lambda: Glow((1, 8, 8), levels=0), ("Glow.levels is 0",)),
        (lambda: Glow((1, 8, 8), levels=1, steps=0), ("Glow.steps is 0",)),
        (lambda: Glow((2,)), ("Glow is for images", "[2]")),
        (lambda: MultiScaleRealNVP((3, 6, 6), scales=3), ("MultiScaleRealNVP.scales is 3", "6×6", "scales 2")),
        (lambda: MultiScaleRealNVP((3, 6, 6), width=0), ("width is 0",)),
        (lambda: MultiScaleRealNVP((3, 6, 6), depth=-1), ("depth is -1",)),
        (lambda: Squeeze((1, 3, 4)), ("3×4", "even")),
        (lambda: ChannelCoupling((1, 4, 4)), ("two channels", "CheckerboardCoupling")),
        (lambda: CheckerboardCoupling((4, 1, 1)), ("more than one pixel",)),
        (lambda: LogisticMixture(1, 0), ("LogisticMixture.components is 0",)),
        (lambda: ThreeLayerNetwork(1, 1, width=0), ("ThreeLayerNetwork.width is 0",)),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(make, words):
    with pytest.raises(UserError) as error:
        make()
    for word in words:
        assert word in str(error.value)
