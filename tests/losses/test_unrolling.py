"""Unrolled updates against scalar recursions, derivatives by hand and finite differences."""

import copy

import pytest
import torch
from losses_fakes import random
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from lightning_gen.errors import UserError
from lightning_gen.losses import NonSaturating, Unrolling
from lightning_gen.networks.base import Judgement

A, B, R, ETA = 0.7, -0.2, 1.3, 0.15


class Affine(nn.Module):
    """D(x) = ax + b."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(A, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(B, dtype=torch.float64))

    def forward(self, x, y=None):
        return self.a * x + self.b


def unrolled(steps, g):
    """Weights after `steps` on L_D = ½ D(g)² − D(r), with a sample g in the generator's hands."""
    real = torch.tensor([R], dtype=torch.float64)
    return Unrolling(steps, ETA)(Affine(), lambda d: 0.5 * d(g, None).square().mean() - d(real, None).mean())


def recursion(steps, g):
    """The same in plain numbers: ∂L/∂a = D(g) g − r, ∂L/∂b = D(g) − 1."""
    a, b = A, B
    for _ in range(steps):
        score = a * g + b
        a, b = a - ETA * (score * g - R), b - ETA * (score - 1)
    return a, b


def sample(value=0.4):
    return torch.tensor([value], dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_weights_are_those_of_gradient_descent(steps):
    weights = unrolled(steps, sample())
    assert list(weights) == ["a", "b"]
    assert (weights["a"].item(), weights["b"].item()) == pytest.approx(recursion(steps, 0.4), rel=1e-12)


def test_one_step_by_hand():
    """L_G = −D_{θ¹}(g): dL_G/dg = −a¹ − g da¹/dg − db¹/dg, da¹/dg = −η(2ag + b), db¹/dg = −ηa."""
    g = sample()
    weights = unrolled(1, g)
    (slope,) = torch.autograd.grad(-functional_call(Affine(), weights, (g, None)).sum(), g)
    a1, _ = recursion(1, 0.4)
    by_hand = -a1 + 0.4 * ETA * (2 * A * 0.4 + B) + ETA * A
    assert slope.item() == pytest.approx(by_hand, rel=1e-12)
    assert slope.item() != pytest.approx(-a1, rel=0.01)  # what it is when the discriminator does not answer


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_gradient_by_finite_differences(steps):
    def generator_loss(g):
        a, b = recursion(steps, g)
        return -(a * g + b)

    g, h = sample(), 1e-5
    weights = unrolled(steps, g)
    (slope,) = torch.autograd.grad(-functional_call(Affine(), weights, (g, None)).sum(), g)
    assert slope.item() == pytest.approx((generator_loss(0.4 + h) - generator_loss(0.4 - h)) / (2 * h), rel=1e-7)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Softplus(), nn.Linear(4, 1), nn.Flatten(0)).double()


class Judges(nn.Module):
    """A network with a layer that its scores do not use, and an answer in full."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.unused = nn.Linear(2, 2).double()

    def forward(self, x, y=None):
        return Judgement(self.inner(x), features=x)


def loss_on(fake, real):
    return lambda d: NonSaturating().discriminator(d(real, None), d(fake, None))


def test_a_network_is_differentiated_through_two_steps():
    judge, real = Judges(network()), random(3, 2, seed=5)

    def generator_loss(fake):
        weights = Unrolling(2, 0.3)(judge, loss_on(fake, real))
        return NonSaturating().generator(functional_call(judge, weights, (fake, None)).scores)

    assert torch.autograd.gradcheck(generator_loss, (random(3, 2).requires_grad_(),))


def test_weights_equal_those_of_sgd():
    judge, fake, real = Judges(network()), random(3, 2), random(3, 2, seed=5)
    weights = Unrolling(4, 0.3)(judge, loss_on(fake, real))
    trained = copy.deepcopy(judge)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.3)
    for _ in range(4):
        optimizer.zero_grad()
        loss_on(fake, real)(lambda x, y: trained(x).scores).backward()
        optimizer.step()
    for name, p in trained.named_parameters():
        torch.testing.assert_close(weights[name], p)


def test_the_discriminator_stays_as_it_is():
    inner = nn.Sequential(
        spectral_norm(nn.Linear(2, 4)), nn.BatchNorm1d(4), nn.Softplus(), nn.Linear(4, 1), nn.Flatten(0)
    )
    judge = Judges(inner.double())
    for p in judge.parameters():
        p.requires_grad_(False)  # as it is while the generator is updated
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    fake = random(6, 2).requires_grad_()
    weights = Unrolling(3, 0.1)(judge, loss_on(fake, random(6, 2, seed=5)))
    assert set(weights) == {name for name, _ in judge.named_parameters()}
    assert all(torch.equal(judge.state_dict()[key], value) for key, value in before.items())
    NonSaturating().generator(functional_call(judge, weights, (fake, None)).scores).backward()
    assert fake.grad.isfinite().all()
    assert all(p.grad is None for p in judge.parameters())


@pytest.mark.parametrize(("key", "value", "right"), [("steps", 0, "at least 1"), ("learning_rate", 0.0, "above 0")])
def test_arguments_out_of_range_are_refused(key, value, right):
    with pytest.raises(UserError, match=rf"Unrolling.{key} is {value}: it must be {right}"):
        Unrolling(**{key: value})
