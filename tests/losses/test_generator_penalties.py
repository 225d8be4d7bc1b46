"""Path length of generators whose Jacobian is known, and feature matching."""

import math

import pytest
import torch
from losses_fakes import generator_turn, random
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.losses import FeatureMatching, PathLength
from lightning_gen.losses.penalties import HasStyles
from lightning_gen.networks.base import Judgement

# -------------------------------------------------------------------- path length


def noise_of(seed, rows, shape):
    torch.manual_seed(seed)
    return torch.randn(rows, *shape, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_a_linear_generator_over_steps(shape):
    """G(z) = Wz: ‖Jᵀy‖ = ‖Wᵀy‖, y ~ N(0, I / pixels); a follows as an average that starts at 0."""
    entries, pixels = math.prod(shape), math.prod(shape[1:])
    w, z = random(entries, 3), random(6, 3, seed=1)
    penalty, mean = PathLength(weight=0.7, decay=0.25, batch_shrink=2).double(), 0.0
    for seed in range(4):
        torch.manual_seed(seed)
        found = penalty(generator_turn(lambda z, y: (z @ w.T).reshape(-1, *shape), z)).item()
        penalty.advance()
        y = noise_of(seed, 3, shape).flatten(1) / math.sqrt(pixels)
        lengths = [(w.T @ row).norm().item() for row in y]
        assert found == pytest.approx(0.7 * sum((length - mean) ** 2 for length in lengths) / 3, rel=1e-12)
        mean += 0.25 * (sum(lengths) / 3 - mean)
        assert penalty.mean_length.value.item() == pytest.approx(mean, rel=1e-12)


def test_lengths_have_their_expectation():
    """E ‖Jᵀy‖² = ‖W‖²_F / pixels; while a = 0 it is the term."""
    torch.manual_seed(0)
    w = random(12, 3)
    turn = generator_turn(lambda z, y: (z @ w.T).reshape(-1, 3, 2, 2), random(20_000, 3))
    found = PathLength(weight=1.0, batch_shrink=1)(turn)
    torch.testing.assert_close(found, w.square().sum() / 4, rtol=0.03, atol=0)


class Styled(nn.Module):
    """w = Mz; the image is the sum over layers of S_l w_l, times a gain."""

    num_styles = 3

    def __init__(self):
        super().__init__()
        self.m, self.s = random(4, 2), random(3, 5, 4)
        self.gain = nn.Parameter(torch.ones((), dtype=torch.float64))

    def mapping(self, z, y=None):
        return z @ self.m.T

    def synthesis(self, w):
        assert w.shape[1:] == (3, 4)
        return self.gain * torch.einsum("lod,bld->bo", self.s, w)

    def forward(self, z, y=None):
        return self.synthesis(self.mapping(z, y)[:, None].expand(-1, 3, -1))


def test_styles_take_the_place_of_latents():
    """‖Jᵀy‖² is the mean over layers of ‖S_lᵀ y‖²."""
    network = Styled()
    assert isinstance(network, HasStyles)
    assert not isinstance(nn.Linear(2, 2), HasStyles)
    turn = generator_turn(network, random(4, 2))
    torch.manual_seed(3)
    found = PathLength(weight=1.0, batch_shrink=1)(turn)
    y = noise_of(3, 4, (5,))
    squared = [sum((s.T @ row).square().sum().item() for s in network.s) / 3 for row in y]
    assert found.item() == pytest.approx(sum(squared) / 4, rel=1e-12)
    (slope,) = torch.autograd.grad(found, network.gain)
    assert slope.item() == pytest.approx(2 * found.item())


def test_second_derivatives_are_right():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    names = [name for name, _ in net.named_parameters()]
    z = random(2, 2)

    def value(*weights):
        torch.manual_seed(1)
        penalty = PathLength(batch_shrink=1).double()
        penalty.mean_length.value.fill_(0.3)
        given = dict(zip(names, weights, strict=True))
        return penalty(generator_turn(lambda z, y: torch.func.functional_call(net, given, z), z))

    assert torch.autograd.gradcheck(value, tuple(p.detach().clone().requires_grad_() for p in net.parameters()))


@pytest.mark.parametrize(("rows", "shrink", "kept"), [(6, 2, 3), (5, 2, 2), (2, 4, 1), (4, 1, 4)])
def test_the_first_rows_are_evaluated_with_their_classes(rows, shrink, kept):
    z, y, seen = random(rows, 3), torch.arange(rows), []

    def generator(z, y):
        seen.append((z, y))
        return z * (1 + y[:, None])

    turn = generator_turn(generator, z, y)
    PathLength(batch_shrink=shrink)(turn)
    assert torch.equal(seen[-1][0], z[:kept])
    assert torch.equal(seen[-1][1], y[:kept])


def test_a_constant_generator_has_a_gradient():
    gain = torch.zeros((), dtype=torch.float64, requires_grad=True)
    penalty = PathLength().double()
    penalty.mean_length.value.fill_(1.0)
    found = penalty(generator_turn(lambda z, y: gain * z, random(4, 3)))
    assert found.item() == 2.0
    assert torch.autograd.grad(found, gain)[0] == 0


def test_the_average_is_saved_and_takes_no_gradient():
    penalty, gain = PathLength(), torch.ones((), dtype=torch.float64, requires_grad=True)
    penalty(generator_turn(lambda z, y: gain * z, random(4, 3)))
    penalty.advance()
    assert penalty.state_dict()["mean_length.value"] > 0
    assert not penalty.mean_length.value.requires_grad


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("weight", -1.0, "at least 0"),
        ("decay", 0.0, "above 0 and at most 1"),
        ("decay", 1.5, "above 0 and at most 1"),
        ("batch_shrink", 0, "at least 1"),
        ("interval", 0, "at least 1"),
    ],
)
def test_arguments_out_of_range_are_refused(key, value, right):
    with pytest.raises(UserError, match=rf"PathLength.{key} is {value}: .*{right}"):
        PathLength(**{key: value})


# -------------------------------------------------------------------- feature matching

Z, REAL = random(4, 3), random(6, 3, seed=1)


def judge_by(theta):
    return lambda x, y=None: Judgement(x.sum(dim=1), features=theta * x)


def test_the_distance_of_mean_features():
    theta = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    turn = generator_turn(lambda z, y: 3 * z, Z, real=REAL, judge=judge_by(theta))
    columns = [theta[k] * (sum(REAL[:, k]) / 6 - 3 * sum(Z[:, k]) / 4) for k in range(3)]
    expected = 0.5 * sum(value.item() ** 2 for value in columns)
    assert FeatureMatching(0.5)(turn).item() == pytest.approx(expected, rel=1e-12)


def test_a_batch_twice_is_the_same():
    one = generator_turn(lambda z, y: z, Z, real=REAL, judge=judge_by(2.0))
    two = generator_turn(lambda z, y: z, Z.repeat(2, 1), real=REAL.repeat(2, 1), judge=judge_by(2.0))
    torch.testing.assert_close(FeatureMatching()(two), FeatureMatching()(one))


def test_the_real_side_is_detached():
    theta = torch.ones(3, dtype=torch.float64, requires_grad=True)
    turn = generator_turn(lambda z, y: z, Z, real=REAL, judge=judge_by(theta))
    (slope,) = torch.autograd.grad(FeatureMatching()(turn), theta)
    gap = (Z.mean(0) - REAL.mean(0)).detach()
    torch.testing.assert_close(slope, 2 * gap * Z.mean(0))  # and not 2 gap², as through both sides


def test_the_generator_gets_the_gradient():
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)
    turn = generator_turn(lambda z, y: gain * z, Z, real=REAL, judge=judge_by(1.0))
    (slope,) = torch.autograd.grad(FeatureMatching()(turn), gain)
    torch.testing.assert_close(slope, 2 * ((Z.mean(0) - REAL.mean(0)) * Z.mean(0)).sum())


def test_scores_alone_are_refused():
    scores = torch.zeros(2)
    assert "scores without features" in FeatureMatching().check(Judgement(scores))
    assert FeatureMatching().check(Judgement(scores, scores[:, None])) is None


def test_negative_weights_are_refused():
    with pytest.raises(UserError, match=r"FeatureMatching.weight is -1.0"):
        FeatureMatching(weight=-1.0)
