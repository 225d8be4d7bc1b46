"""Adversarial losses against their formulas, written out in another way."""

import math

import pytest
import torch
from torch.nn import BCEWithLogitsLoss

from lightning_gen.errors import UserError
from lightning_gen.losses import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticAverage,
    RelativisticPairing,
    TopK,
    Wasserstein,
)

LOSSES = [
    Minimax(),
    NonSaturating(),
    Hinge(),
    LeastSquares(),
    Wasserstein(),
    RelativisticPairing(),
    RelativisticAverage(),
]
REAL, FAKE = [0.3, -1.7, 2.2, 0.0, 1.0], [-0.4, 0.9, -2.5, 0.0, -1.0]


def scores(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def log_sigmoid(x):
    return math.log(sigmoid(x))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


def named(loss):
    return type(loss).__name__


def average_relativistic(one, other):
    """Ones are the true ones: binary cross-entropy of D̃ = σ(C(a) − E C(b))."""
    to_one = mean(math.log(sigmoid(a - mean(other))) for a in one)
    to_other = mean(math.log(1 - sigmoid(b - mean(one))) for b in other)
    return -to_one - to_other


FORMULAS = {
    "Minimax": (
        lambda r, f: -mean(map(log_sigmoid, r)) - mean(math.log(1 - sigmoid(x)) for x in f),
        lambda f, r: mean(math.log(1 - sigmoid(x)) for x in f),
    ),
    "NonSaturating": (
        lambda r, f: -mean(map(log_sigmoid, r)) - mean(log_sigmoid(-x) for x in f),
        lambda f, r: -mean(map(log_sigmoid, f)),
    ),
    "Hinge": (
        lambda r, f: mean(max(0.0, 1 - x) for x in r) + mean(max(0.0, 1 + x) for x in f),
        lambda f, r: -mean(f),
    ),
    "LeastSquares": (
        lambda r, f: mean((x - 1) ** 2 for x in r) / 2 + mean(x**2 for x in f) / 2,
        lambda f, r: mean((x - 1) ** 2 for x in f) / 2,
    ),
    "Wasserstein": (lambda r, f: mean(f) - mean(r), lambda f, r: -mean(f)),
    "RelativisticPairing": (
        lambda r, f: -mean(log_sigmoid(a - b) for a, b in zip(r, f, strict=True)),
        lambda f, r: -mean(log_sigmoid(b - a) for a, b in zip(r, f, strict=True)),
    ),
    "RelativisticAverage": (average_relativistic, average_relativistic),
}


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_value_is_the_formula(loss):
    discriminator, generator = FORMULAS[named(loss)]
    found = loss.discriminator(scores(REAL), scores(FAKE)).item(), loss.generator(scores(FAKE), scores(REAL)).item()
    assert found == pytest.approx((discriminator(REAL, FAKE), generator(FAKE, REAL)), rel=1e-12)


def test_relativistic_losses_of_two_points_by_hand():
    """D(x) = 0, ln 3; D(x̂) = ln 2, 0: every ratio of odds is a fraction."""
    real, fake = scores([0.0, math.log(3)]), scores([math.log(2), 0.0])
    pairing, average = RelativisticPairing(), RelativisticAverage()
    # 1 + e^(D(x̂) − D(x)) is 1 + 2 and 1 + 1/3
    assert pairing.discriminator(real, fake).item() == pytest.approx(math.log(3 * 4 / 3) / 2, rel=1e-12)
    # 1 + e^(D(x) − D(x̂)) is 1 + 1/2 and 1 + 3
    assert pairing.generator(fake, real).item() == pytest.approx(math.log(1.5 * 4) / 2, rel=1e-12)
    r, f = math.sqrt(3), math.sqrt(2)  # e to the means
    wanted = (math.log((1 + f) * (1 + f / 3)) + math.log((1 + 2 / r) * (1 + 1 / r))) / 2
    assert average.discriminator(real, fake).item() == pytest.approx(wanted, rel=1e-12)
    wanted = (math.log((1 + r / 2) * (1 + r)) + math.log((1 + 1 / f) * (1 + 3 / f))) / 2
    assert average.generator(fake, real).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("loss", [RelativisticPairing(), RelativisticAverage()], ids=named)
def test_relativistic_losses_see_differences_alone(loss):
    assert loss.relativistic
    real, fake = scores(REAL), scores(FAKE)
    torch.testing.assert_close(loss.discriminator(real + 7, fake + 7), loss.discriminator(real, fake))
    torch.testing.assert_close(loss.generator(fake + 7, real + 7), loss.generator(fake, real))


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if not loss.relativistic], ids=named)
def test_other_generators_need_no_real_scores(loss):
    assert loss.generator(scores(FAKE)) == loss.generator(scores(FAKE), scores(REAL))


def test_pairing_pairs():
    """Another order of the generated samples is another value, but not for the average."""
    real, fake = scores(REAL), scores(FAKE)
    assert RelativisticPairing().discriminator(real, fake) != RelativisticPairing().discriminator(real, fake.flip(0))
    average = RelativisticAverage()
    torch.testing.assert_close(average.discriminator(real, fake), average.discriminator(real, fake.flip(0)))


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


def test_least_squares_has_three_targets():
    loss, real, fake = LeastSquares(a=-1.0, b=2.0, c=0.5), scores([1.0, 3.0]), scores([0.0, 2.0])
    assert loss.discriminator(real, fake).item() == pytest.approx((1 + 1) / 4 + (1 + 9) / 4)
    assert loss.generator(fake).item() == pytest.approx((0.25 + 2.25) / 4)
    with pytest.raises(UserError, match=r"LeastSquares.a is 1.0 and so is b"):
        LeastSquares(a=1.0, b=1.0)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_gradients_are_those_of_the_value(loss):
    smooth = ([0.3, -1.7, 2.2], [-0.4, 0.9, -2.5])  # away from the hinge's corners
    assert torch.autograd.gradcheck(loss.discriminator, (scores(smooth[0]), scores(smooth[1])))
    assert torch.autograd.gradcheck(lambda f: loss.generator(f, scores(smooth[0]).detach()), (scores(smooth[1]),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_extreme_scores_stay_finite(loss, dtype):
    extreme = torch.tensor([1e4, -1e4, 0.0], dtype=dtype).requires_grad_()
    value = loss.discriminator(extreme, extreme) + loss.generator(extreme, -extreme.detach())
    (gradient,) = torch.autograd.grad(value, extreme)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), Hinge(), RelativisticPairing()], ids=named)
def test_a_lost_discriminator_pays_linearly(loss):
    assert loss.discriminator(torch.tensor([-1e4]), torch.tensor([1e4])) == pytest.approx(2e4, rel=1e-3)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_the_players_pull_apart(loss):
    real, fake = scores([0.2, 0.6]), scores([0.2, 0.6])
    d_real, d_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    (g_fake,) = torch.autograd.grad(loss.generator(fake, real.detach()), fake)
    assert (d_real < 0).all()
    assert (d_fake > 0).all()
    assert (g_fake < 0).all()  # descending raises the score


def test_only_the_minimax_generator_saturates():
    lost, real = scores([-30.0]), scores([30.0])
    gradient = {named(loss): torch.autograd.grad(loss.generator(lost, real), lost)[0].item() for loss in LOSSES}
    assert abs(gradient.pop("Minimax")) < 1e-12
    assert gradient["NonSaturating"] == pytest.approx(-1)
    assert gradient["Hinge"] == -1
    assert all(value <= -0.99 for value in gradient.values())


def test_the_hinge_ignores_what_is_beyond_the_margin():
    real, fake = scores([1.5, 0.5]), scores([-1.5, -0.5])
    d_real, d_fake = torch.autograd.grad(Hinge().discriminator(real, fake), (real, fake))
    assert d_real.tolist() == [0, -0.5]
    assert d_fake.tolist() == [0, 0.5]


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_loss_is_a_mean_over_the_batch(loss):
    real, fake = scores(REAL), scores(FAKE)
    torch.testing.assert_close(loss.discriminator(real.repeat(3), fake.repeat(3)), loss.discriminator(real, fake))
    torch.testing.assert_close(loss.generator(fake.repeat(3), real.repeat(3)), loss.generator(fake, real))
    assert loss.discriminator(real, fake).shape == ()


# -------------------------------------------------------------------- top-k


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if not loss.relativistic], ids=named)
@pytest.mark.parametrize(("fraction", "k"), [(0.01, 1), (0.4, 2), (0.55, 3), (1.0, 5)])
def test_the_generator_learns_from_the_k_best(loss, fraction, k):
    top, fake = TopK(loss, fraction), scores(FAKE)
    value = top.generator(fake)
    assert value.item() == pytest.approx(FORMULAS[named(loss)][1](sorted(FAKE)[-k:], REAL), rel=1e-12)
    (gradient,) = torch.autograd.grad(value, fake)
    kept = sorted(range(5), key=lambda i: FAKE[i])[-k:]
    assert all(gradient[i] == 0 for i in set(range(5)) - set(kept))
    assert all(gradient[i] != 0 for i in kept if named(loss) != "LeastSquares" or FAKE[i] != 1)


def test_top_k_leaves_the_discriminator_alone():
    real, fake = scores(REAL), scores(FAKE)
    assert TopK(Hinge(), 0.2).discriminator(real, fake) == Hinge().discriminator(real, fake)


def test_the_fraction_may_be_annealed():
    top = TopK(Wasserstein())
    assert top.generator(scores(FAKE)).item() == pytest.approx(-mean(FAKE))
    top.fraction = 0.2
    assert top.generator(scores(FAKE)).item() == -max(FAKE)


@pytest.mark.parametrize("fraction", [0.0, 1.01, float("nan")])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(UserError, match=rf"TopK.fraction is {fraction}: .* above 0 and at most 1"):
        TopK(Hinge(), fraction)


def test_top_k_of_a_relativistic_loss_is_refused():
    with pytest.raises(UserError, match=r"TopK.loss is RelativisticPairing.*not\s+relativistic"):
        TopK(RelativisticPairing(), 0.5)
