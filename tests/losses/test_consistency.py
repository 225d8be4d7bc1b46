"""Consistency penalties on linear critics and generators, where they have closed forms."""

import pytest
import torch
from losses_fakes import Linear, Scaled, critic_turn, generator_turn, random
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.losses import BalancedConsistency, Consistency, LatentConsistency, LatentDiversity

X, FAKE = random(5, 6), random(5, 6, seed=1)
W = random(6, 3, seed=2)


def linear(z, y=None):
    return z @ W.T


def test_consistency_of_a_linear_critic():
    """D(x) − D(3x) = −2 w·x."""
    critic = Linear(6)
    penalty = Consistency(Scaled(3.0), weight=0.5)
    expected = 0.5 * (2 * X @ critic.w).square().mean()
    found = penalty(critic_turn(critic, X, FAKE))
    torch.testing.assert_close(found, expected)
    wanted = 0.5 * 4 * 2 * ((X @ critic.w)[:, None] * X).mean(dim=0)  # through both sides
    torch.testing.assert_close(torch.autograd.grad(found, critic.w)[0], wanted)


def test_balanced_consistency_of_a_linear_critic():
    critic = Linear(6)
    found = BalancedConsistency(Scaled(3.0), real_weight=2.0, fake_weight=5.0)(critic_turn(critic, X, FAKE))
    expected = 2 * (2 * X @ critic.w).square().mean() + 5 * (2 * FAKE @ critic.w).square().mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [Consistency, BalancedConsistency])
def test_what_changes_nothing_costs_nothing(kind):
    assert kind(Scaled(1.0))(critic_turn(Linear(6), X, FAKE)) == 0


@pytest.mark.parametrize("kind", [Consistency, BalancedConsistency])
def test_a_batch_twice_is_the_same(kind):
    critic, penalty = Linear(6), kind(Scaled(2.0))
    twice = critic_turn(critic, X.repeat(2, 1), FAKE.repeat(2, 1))
    torch.testing.assert_close(penalty(twice), penalty(critic_turn(critic, X, FAKE)))


def test_classes_reach_the_critic():
    w, y = random(3, 6), torch.tensor([0, 1, 2, 1, 0])
    turn = critic_turn(lambda x, y: (w[y] * x).sum(1), X, FAKE, y)
    torch.testing.assert_close(Consistency(Scaled(2.0), 1.0)(turn), (w[y] * X).sum(1).square().mean())


def test_the_augmentation_is_a_part_of_the_penalty():
    """So that its buffers travel with the model, and `check` can find it."""
    penalty = Consistency(Scaled(2.0))
    assert [type(child) for child in penalty.children()] == [Scaled]


def latents(rows=4):
    return random(rows, 3, seed=3)


def test_latent_consistency_of_linear_networks():
    """D(G(z)) − D(G(z + Δz)) = −w·WΔz."""
    critic, z = Linear(6), latents()
    penalty = LatentConsistency(weight=2.0, sigma=0.1)
    turn = critic_turn(critic, X, 100 * FAKE, generator=linear, z=z)  # the fakes as augmented play no part
    torch.manual_seed(0)
    found = penalty(turn)
    torch.manual_seed(0)
    shift = 0.1 * torch.randn_like(z)
    torch.testing.assert_close(found, 2 * (shift @ W.T @ critic.w).square().mean())


def test_latent_consistency_has_its_expectation():
    """E (w·WΔz)² = σ² ‖Wᵀw‖²."""
    torch.manual_seed(0)
    critic = Linear(6)
    turn = critic_turn(critic, X, generator=linear, z=latents(20_000))
    expected = 5 * 0.03**2 * (critic.w @ W).square().sum()
    torch.testing.assert_close(LatentConsistency()(turn), expected, rtol=0.04, atol=0)


def test_latent_consistency_leaves_the_generator_alone():
    generator = nn.Linear(3, 6).double()
    turn = critic_turn(Linear(6), X, generator=lambda z, y: generator(z), z=latents())
    LatentConsistency()(turn).backward()
    assert all(p.grad is None for p in generator.parameters())


def test_latent_diversity_of_a_linear_generator():
    """G(z) − G(z + Δz) = −WΔz."""
    z = latents()
    torch.manual_seed(0)
    found = LatentDiversity(weight=2.0, sigma=0.1)(generator_turn(linear, z))
    torch.manual_seed(0)
    shift = 0.1 * torch.randn_like(z)
    torch.testing.assert_close(found, -2 * (shift @ W.T).square().mean())


def test_descending_latent_diversity_spreads_samples():
    gain = torch.ones((), dtype=torch.float64, requires_grad=True)
    turn = generator_turn(lambda z, y: gain * z, latents())
    (slope,) = torch.autograd.grad(LatentDiversity()(turn), gain)
    assert slope < 0


@pytest.mark.parametrize("kind", [LatentConsistency, LatentDiversity])
def test_without_a_change_there_is_no_term(kind):
    make = generator_turn if kind is LatentDiversity else (lambda g, z: critic_turn(Linear(6), X, generator=g, z=z))
    assert kind(sigma=0.0)(make(linear, latents())) == 0


@pytest.mark.parametrize("value", [-1.0, float("nan")])
@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda **kw: Consistency(Scaled(1.0), **kw), "weight"),
        (lambda **kw: BalancedConsistency(Scaled(1.0), **kw), "real_weight"),
        (lambda **kw: BalancedConsistency(Scaled(1.0), **kw), "fake_weight"),
        (LatentConsistency, "weight"),
        (LatentConsistency, "sigma"),
        (LatentDiversity, "weight"),
        (LatentDiversity, "sigma"),
    ],
)
def test_negative_arguments_are_refused(make, key, value):
    with pytest.raises(UserError, match=rf"\.{key} is {value}: it must be at least 0"):
        make(**{key: value})
