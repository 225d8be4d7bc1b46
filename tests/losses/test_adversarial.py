"""Adversarial losses against their formulas, written out in another way."""

import math

import pytest
import torch
from torch.nn import BCEWithLogitsLoss

from lightning_gen.losses import Hinge, Minimax, NonSaturating

LOSSES = [Minimax(), NonSaturating(), Hinge()]
REAL, FAKE = [0.3, -1.7, 2.2, 0.0, 1.0], [-0.4, 0.9, -2.5, 0.0, -1.0]


def scores(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def log_sigmoid(x):
    return math.log(1 / (1 + math.exp(-x)))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def named(loss):
    return type(loss).__name__


FORMULAS = {
    "Minimax": (
        lambda r, f: -mean(map(log_sigmoid, r)) - mean(math.log(1 - 1 / (1 + math.exp(-x))) for x in f),
        lambda f: mean(math.log(1 - 1 / (1 + math.exp(-x))) for x in f),
    ),
    "NonSaturating": (
        lambda r, f: -mean(map(log_sigmoid, r)) - mean(log_sigmoid(-x) for x in f),
        lambda f: -mean(map(log_sigmoid, f)),
    ),
    "Hinge": (
        lambda r, f: mean(max(0.0, 1 - x) for x in r) + mean(max(0.0, 1 + x) for x in f),
        lambda f: -mean(f),
    ),
}


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_value_is_the_formula(loss):
    discriminator, generator = FORMULAS[named(loss)]
    assert loss.discriminator(scores(REAL), scores(FAKE)).item() == pytest.approx(discriminator(REAL, FAKE), rel=1e-12)
    assert loss.generator(scores(FAKE)).item() == pytest.approx(generator(FAKE), rel=1e-12)


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=named)
def test_logistic_discriminator_is_cross_entropy(loss):
    bce, real, fake = BCEWithLogitsLoss(), scores(REAL), scores(FAKE)
    expected = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    torch.testing.assert_close(loss.discriminator(real, fake), expected, rtol=1e-12, atol=0)
    wanted = 1.0 if named(loss) == "NonSaturating" else 0.0
    sign = 1 if wanted else -1
    torch.testing.assert_close(
        loss.generator(fake), sign * bce(fake, torch.full_like(fake, wanted)), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_gradients_are_those_of_the_value(loss):
    smooth = ([0.3, -1.7, 2.2], [-0.4, 0.9, -2.5])  # away from the hinge's corners
    assert torch.autograd.gradcheck(loss.discriminator, (scores(smooth[0]), scores(smooth[1])))
    assert torch.autograd.gradcheck(loss.generator, (scores(smooth[1]),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_extreme_scores_stay_finite(loss, dtype):
    extreme = torch.tensor([1e4, -1e4, 0.0], dtype=dtype).requires_grad_()
    value = loss.discriminator(extreme, extreme) + loss.generator(extreme)
    (gradient,) = torch.autograd.grad(value, extreme)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert loss.discriminator(torch.tensor([-1e4]), torch.tensor([1e4])) == pytest.approx(2e4, rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_the_players_pull_apart(loss):
    real, fake = scores([0.2, -0.6]), scores([0.2, -0.6])
    d_real, d_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    (g_fake,) = torch.autograd.grad(loss.generator(fake), fake)
    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    assert (g_fake < 0).all()  # descending raises the score


def test_only_the_minimax_generator_saturates():
    lost = scores([-30.0])
    gradient = {named(loss): torch.autograd.grad(loss.generator(lost), lost)[0].item() for loss in LOSSES}
    assert abs(gradient["Minimax"]) < 1e-12
    assert gradient["NonSaturating"] == pytest.approx(-1)
    assert gradient["Hinge"] == -1


def test_the_hinge_ignores_what_is_beyond_the_margin():
    real, fake = scores([1.5, 0.5]), scores([-1.5, -0.5])
    d_real, d_fake = torch.autograd.grad(Hinge().discriminator(real, fake), (real, fake))
    assert d_real.tolist() == [0, -0.5]
    assert d_fake.tolist() == [0, 0.5]


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_loss_is_a_mean_over_the_batch(loss):
    real, fake = scores(REAL), scores(FAKE)
    torch.testing.assert_close(loss.discriminator(real.repeat(3), fake.repeat(3)), loss.discriminator(real, fake))
    torch.testing.assert_close(loss.generator(fake.repeat(3)), loss.generator(fake))
    assert loss.discriminator(real, fake).shape == ()
