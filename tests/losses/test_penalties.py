"""Gradient penalties against closed forms."""

import pytest
import torch
from losses_fakes import Linear, critic_turn, psd, quadratic, random
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.losses import (
    DRAGAN,
    R1,
    R2,
    GradientPenalty,
    MaxGradientPenalty,
    OneSidedGradientPenalty,
)
from lightning_gen.losses.penalties import DiscriminatorTurn, gradient_norm

GAMMA = 3.0
PENALTIES = [
    R1(GAMMA),
    R2(GAMMA),
    GradientPenalty(GAMMA),
    GradientPenalty(GAMMA, target=2.5),
    OneSidedGradientPenalty(GAMMA, target=0.5),
    MaxGradientPenalty(GAMMA),
    DRAGAN(GAMMA),
]


def named(penalty):
    return type(penalty).__name__


COSTS = {
    "R1": lambda norms, penalty: GAMMA / 2 * (norms**2).mean(),
    "R2": lambda norms, penalty: GAMMA / 2 * (norms**2).mean(),
    "GradientPenalty": lambda norms, penalty: GAMMA * ((norms - penalty.target) ** 2).mean(),
    "OneSidedGradientPenalty": lambda norms, penalty: GAMMA * ((norms - penalty.target).clamp(min=0) ** 2).mean(),
    "MaxGradientPenalty": lambda norms, penalty: GAMMA * norms.max() ** 2,
    "DRAGAN": lambda norms, penalty: GAMMA * ((norms - penalty.target) ** 2).mean(),
}


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 2, 2)])
@pytest.mark.parametrize("penalty", PENALTIES, ids=named)
def test_linear_critic(penalty, shape):
    critic = Linear(12)
    found = penalty(critic_turn(critic, random(*shape), random(*shape, seed=1)))
    norm = critic.w.detach().square().sum().sqrt()
    torch.testing.assert_close(found.detach(), COSTS[named(penalty)](norm.expand(5), penalty))


@pytest.mark.parametrize("penalty", PENALTIES, ids=named)
def test_quadratic_critic(penalty):
    a, x = psd(4), random(7, 4)
    if isinstance(penalty, DRAGAN):
        penalty = DRAGAN(GAMMA, scale=0.0)  # at x; elsewhere the points are drawn between x and x
    norms = torch.stack([(a @ row).norm() for row in x])
    torch.testing.assert_close(penalty(critic_turn(quadratic(a), x)), COSTS[named(penalty)](norms, penalty))


def test_gradient_for_a_linear_critic_is_gamma_w():
    critic, x = Linear(6), random(5, 6)
    gradient, offset = torch.autograd.grad(R1(GAMMA)(critic_turn(critic, x)), (critic.w, critic.b), allow_unused=True)
    torch.testing.assert_close(gradient, GAMMA * critic.w.detach())
    assert offset is None or offset == 0


def test_gradient_of_the_gradient_penalty_points_along_w():
    critic, x = Linear(6), random(5, 6)
    (gradient,) = torch.autograd.grad(GradientPenalty(GAMMA)(critic_turn(critic, x)), critic.w)
    w = critic.w.detach()
    torch.testing.assert_close(gradient, GAMMA * 2 * (w.norm() - 1) * w / w.norm())


def test_one_sided_penalty_spares_flat_critics():
    critic, x = Linear(6), random(5, 6)
    steep = critic.w.detach().norm().item()
    assert OneSidedGradientPenalty(target=steep + 0.1)(critic_turn(critic, x)) == 0
    assert OneSidedGradientPenalty(target=steep - 0.1)(critic_turn(critic, x)).item() == pytest.approx(0.1)
    assert GradientPenalty(target=steep + 0.1)(critic_turn(critic, x)).item() == pytest.approx(0.1)


@pytest.mark.parametrize("penalty", [R1(GAMMA), R2(GAMMA), GradientPenalty(GAMMA)], ids=named)
def test_samples_are_independent(penalty):
    x, critic = random(6, 4), quadratic(psd(4))
    alone = torch.stack([penalty(critic_turn(critic, row[None])) for row in x])
    torch.testing.assert_close(penalty(critic_turn(critic, x)), alone.mean())


@pytest.mark.parametrize(
    "penalty",
    [R1(GAMMA), R2(GAMMA), GradientPenalty(GAMMA), OneSidedGradientPenalty(GAMMA), MaxGradientPenalty(GAMMA)],
    ids=named,
)
def test_a_batch_twice_is_the_same(penalty):
    x, critic = random(6, 4), quadratic(psd(4))
    once, twice = penalty(critic_turn(critic, x)), penalty(critic_turn(critic, torch.cat((x, x))))
    torch.testing.assert_close(twice, once)


@pytest.mark.parametrize(("penalty", "seen"), [(R1(), 0), (R2(), 1)], ids=["R1", "R2"])
def test_only_one_kind_of_sample_counts(penalty, seen):
    x, critic = random(6, 4), quadratic(psd(4))
    pair, other = [100 * x, 100 * x], [-7 * x, -7 * x]
    pair[seen] = other[seen] = x
    alone = penalty(critic_turn(critic, x))
    assert penalty(critic_turn(critic, *pair)) == penalty(critic_turn(critic, *other)) == alone


def points_of(penalty, real, fake):
    seen = []

    def critic(x, y=None):
        seen.append(x.detach())
        return x.flatten(1).sum(dim=1)

    penalty(critic_turn(critic, real, fake, scores=(None, None)))
    (points,) = seen
    return points


@pytest.mark.parametrize("penalty", [GradientPenalty(), OneSidedGradientPenalty(), MaxGradientPenalty()], ids=named)
def test_one_epsilon_for_each_sample(penalty):
    torch.manual_seed(0)
    real, fake = torch.ones(2000, 3, 2, 2).double(), torch.zeros(2000, 3, 2, 2).double()
    points = points_of(penalty, real, fake).flatten(1)  # 1 ε + 0 (1 − ε)
    assert (points == points[:, :1]).all()
    epsilon = points[:, 0]
    assert len(epsilon.unique()) == 2000
    assert 0 <= epsilon.min() < 0.01 < 0.99 < epsilon.max() <= 1
    assert epsilon.mean().item() == pytest.approx(1 / 2, abs=0.03)
    assert epsilon.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_points_lie_between_their_own_pair():
    real, fake = random(50, 4), random(50, 4, seed=1)
    ratio = (points_of(GradientPenalty(), real, fake) - fake) / (real - fake)
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 4))
    assert ((ratio >= 0) & (ratio <= 1)).all()


def test_dragan_perturbs_every_entry_by_a_share_for_each_sample():
    torch.manual_seed(0)
    real = 5 + 3 * random(2000, 2, 15)
    points = points_of(DRAGAN(scale=0.25), real, torch.full_like(real, float("nan")))
    spread = (real - real.mean()).square().mean().sqrt()
    shift = ((points - real) / (0.25 * spread)).flatten(1)  # αu, α one for each sample
    assert 0 <= shift.min() < 0.01 < 0.97 < shift.max() <= 1
    share = 2 * shift.mean(dim=1)  # about α
    assert share.mean().item() == pytest.approx(1 / 2, abs=0.03)
    assert share.var().item() == pytest.approx(1 / 12 + 4 / 3 / 12 / 30, abs=0.01)
    entries = shift / share[:, None]  # about u
    assert entries.var(dim=1).mean().item() == pytest.approx(1 / 12, abs=0.01)


def test_scores_that_can_be_differentiated_are_not_made_again():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Softplus(), nn.Linear(8, 1)).double()
    x, fake = random(6, 4), random(6, 4, seed=1)

    def scores(x, y=None):
        return net(x).squeeze(1)

    for penalty in (R1(GAMMA), R2(GAMMA)):
        leaves = tuple(each.clone().requires_grad_() for each in (x, fake))
        judged = tuple(scores(leaf) for leaf in leaves)
        turn = DiscriminatorTurn(None, x, fake, None, *judged, net, None, None, leaves)
        again = critic_turn(scores, x, fake)
        torch.testing.assert_close(penalty(turn), penalty(again))
        weights = list(net.parameters())[:-1]
        for a, b in zip(*(torch.autograd.grad(penalty(t), weights) for t in (turn, again)), strict=True):
            torch.testing.assert_close(a, b)


def test_classes_reach_the_critic():
    w, y = random(3, 4), torch.tensor([0, 2, 2])
    for penalty in PENALTIES:
        turn = critic_turn(lambda x, y: (w[y] * x).sum(1), random(3, 4), random(3, 4, seed=1), y)
        torch.testing.assert_close(penalty(turn), COSTS[named(penalty)](w[y].norm(dim=1), penalty))


@pytest.mark.parametrize("penalty", PENALTIES, ids=named)
def test_the_data_are_left_alone(penalty):
    x, fake = random(5, 6), random(5, 6, seed=1)
    penalty(critic_turn(Linear(6), x, fake)).backward()
    assert not x.requires_grad
    assert not fake.requires_grad
    assert x.grad is fake.grad is None


@pytest.mark.parametrize("penalty", PENALTIES, ids=named)
def test_second_derivatives_are_right(penalty):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 1)).double()
    x, fake = random(2, 3), random(2, 3, seed=1)
    names = [name for name, _ in net.named_parameters()]
    if isinstance(penalty, OneSidedGradientPenalty):
        penalty = OneSidedGradientPenalty(GAMMA, target=0.01)  # or it would be flat

    def value(*weights):
        torch.manual_seed(1)

        def critic(x, y):
            return torch.func.functional_call(net, dict(zip(names, weights, strict=True)), x).squeeze(1)

        return penalty(critic_turn(critic, x, fake))

    weights = tuple(p.detach().clone().requires_grad_() for p in net.parameters())
    assert torch.autograd.gradcheck(value, weights)
    assert any(slope.abs().sum() > 0 for slope in torch.autograd.grad(value(*weights), weights[:2]))


@pytest.mark.parametrize("penalty", PENALTIES, ids=named)
def test_a_flat_critic_has_a_gradient(penalty):
    critic = Linear(6)
    nn.init.zeros_(critic.w)
    (gradient,) = torch.autograd.grad(penalty(critic_turn(critic, random(5, 6))), critic.w)
    assert (gradient == 0).all()


def test_packs_are_one_sample():
    """D(x₁, x₂) = ½ (x₁, x₂)ᵀ A (x₁, x₂): the gradient is that of the pack."""
    a, x = psd(6), random(8, 3)
    whole = quadratic(a)
    norms = gradient_norm(lambda x, y: whole(x.reshape(4, 6)), x, None)
    torch.testing.assert_close(norms, torch.stack([(a @ pack).norm() for pack in x.reshape(4, 6)]))


@pytest.mark.parametrize("kind", [R1, R2, GradientPenalty, OneSidedGradientPenalty, MaxGradientPenalty, DRAGAN])
def test_the_weight_scales_the_term(kind):
    turn = critic_turn(Linear(6), random(5, 6))
    assert kind(0.0)(turn) == 0
    torch.testing.assert_close(kind(20.0)(turn), 2 * kind(10.0)(turn))
    torch.testing.assert_close(kind(20.0, interval=4)(turn), kind(20.0)(turn))  # whoever calls multiplies by it


def test_gamma_may_be_annealed():
    penalty, turn = R1(1.0), critic_turn(Linear(6), random(5, 6))
    before = penalty(turn)
    penalty.gamma = 0.5
    torch.testing.assert_close(penalty(turn), before / 2)


@pytest.mark.parametrize("interval", [0, -1])
def test_interval_below_one_is_refused(interval):
    with pytest.raises(UserError, match=f"interval is {interval}.*at least 1"):
        R1(interval=interval)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (R1, "gamma"),
        (R2, "gamma"),
        (GradientPenalty, "weight"),
        (GradientPenalty, "target"),
        (OneSidedGradientPenalty, "weight"),
        (OneSidedGradientPenalty, "target"),
        (MaxGradientPenalty, "weight"),
        (DRAGAN, "weight"),
        (DRAGAN, "scale"),
        (DRAGAN, "target"),
    ],
)
@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_negative_arguments_are_refused(kind, key, value):
    with pytest.raises(UserError, match=rf"{kind.__name__}.{key} is {value}: it must be at least 0"):
        kind(**{key: value})
