"""The family of normalising flows: change of variables, latents, conditions, precision, and bad input."""

from functools import partial

import pytest
import torch
from torch.distributions import MultivariateNormal

from lightning_gen.abilities import BoundsLikelihood, HasLikelihood, HasVectorLatents, Interpolates
from lightning_gen.bijections import MAF, AutoregressiveSpline, Compose, Logit, Standardise
from lightning_gen.data import Digits, Moons2D, Ring2D
from lightning_gen.dequantisation import UniformDequantisation
from lightning_gen.distributions import DiagonalNormal, StandardLogistic
from lightning_gen.errors import UserError
from lightning_gen.families import NormalizingFlow
from lightning_gen.latents import slerp
from lightning_gen.noise import Noise, sample_seeds

ADAM = partial(torch.optim.Adam, lr=1e-2)
SMALL = partial(MAF, transforms=2, hidden_features=(16,))
PIXELS = partial(Compose, bijections=[partial(Logit, alpha=0.05), SMALL])
SEEDS = sample_seeds(3, torch.arange(6))


def points(flow=SMALL, **options):
    torch.manual_seed(0)
    return NormalizingFlow([2], flow, ADAM, **options)


def digits(**options):
    torch.manual_seed(0)
    options = {"dequantisation": UniformDequantisation(17)} | options
    return NormalizingFlow([1, 8, 8], PIXELS, ADAM, **options)


def moved(model, scale=0.3):
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(scale * torch.randn_like(p))
    return model.double()


class Longer(DiagonalNormal):
    """Vectors of one number more."""

    def __init__(self, latent_dim, num_features=None):
        super().__init__(latent_dim + 1, num_features)


# -------------------------------------------------------------------- the density


def test_a_linear_flow_is_a_normal_distribution():
    # without hidden units that answer, a MAF is an affine map: log p is that of a normal distribution in closed form
    model = points(partial(Compose, bijections=[partial(Standardise, mean=[1.0, -2.0], std=[0.5, 3.0])])).double()
    x = torch.randn(7, 2).double()
    normal = MultivariateNormal(torch.tensor([1.0, -2.0]).double(), torch.tensor([0.25, 9.0]).diag().double())
    torch.testing.assert_close(model.log_prob(x), normal.log_prob(x))
    drawn = model.sample(4000, seeds=sample_seeds(0, torch.arange(4000)))
    torch.testing.assert_close(drawn.mean(0), normal.mean, rtol=0, atol=0.2)
    torch.testing.assert_close(drawn.std(0), torch.tensor([0.5, 3.0]).double(), rtol=0.05, atol=0)


@pytest.mark.parametrize("base", [StandardLogistic, DiagonalNormal])
def test_the_density_integrates_to_one(base):
    model = moved(points(base=base), 0.15)
    line = torch.linspace(-30, 30, 401).double()
    total = model.log_prob(torch.cartesian_prod(line, line)).exp().sum() * (line[1] - line[0]) ** 2
    assert float(total) == pytest.approx(1.0, abs=2e-3)


def test_training_finds_the_entropy(make_trainer):
    # of standard normal points there is nothing to learn but the identity: ln 2πe nats
    model = points(partial(AutoregressiveSpline, transforms=1, hidden_features=(8,)))
    data = Ring2D(modes=1, radius=1.0, std=0.5, num_samples=4000, num_val=4000, batch_size=256)
    trainer = make_trainer(max_steps=120, limit_val_batches=1.0)
    trainer.fit(model, data)
    (found,) = trainer.validate(model, data, verbose=False)
    assert found["val_nats"] == pytest.approx(2.8379 - 2 * 0.6931, abs=0.05)


def test_bounds_average_to_a_probability_on_two_levels():
    torch.manual_seed(0)
    model = NormalizingFlow([2], SMALL, ADAM, dequantisation=UniformDequantisation(2))
    moved(model, 0.2)
    corners = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0])).double()
    noise = Noise(sample_seeds(0, torch.arange(4)))
    found = model.log_likelihood(corners, None, noise, 400).exp().sum()
    line = (torch.arange(400) + 0.5).double() / 200 - 1  # what lies beyond [-1, 1] is no level's
    with torch.no_grad():
        inside = model.log_p(torch.cartesian_prod(line, line), None).exp().sum() / 200**2
    assert 0.1 < float(inside) < 0.9
    assert float(found) == pytest.approx(float(inside), rel=0.05)
    assert not model.exact_likelihood
    assert model.discrete


def test_classes_have_their_own_densities(make_trainer):
    model = points(num_classes=8, condition_features=8)
    data = Ring2D(std=0.05, radius=1.0, num_samples=2000, num_val=16, batch_size=128)
    make_trainer(max_steps=150).fit(model, data)
    y = torch.arange(8).repeat(50)
    x = model.sample(400, y, seeds=sample_seeds(0, torch.arange(400))).view(50, 8, 2)
    torch.testing.assert_close(x.mean(0), data.means, rtol=0, atol=0.2)
    own, other = (model.log_prob(data.means, torch.arange(8).roll(shift)) for shift in (0, 4))
    assert (own > other + 5).all()


def test_mixed_precision_leaves_densities_alone():
    model = digits()
    x = Digits(image_size=8).examples(8)["x"]
    values = model.dequantisation.middles(x)
    expected = model.log_p(values, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.log_p(values, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_training_in_mixed_precision_runs(make_trainer):
    model = digits(num_classes=10, condition_features=4)
    make_trainer(max_steps=2, precision="bf16-mixed", limit_val_batches=1).fit(
        model, Digits(image_size=8, batch_size=8)
    )
    assert all(p.isfinite().all() for p in model.parameters())


# -------------------------------------------------------------------- latents and samples


def test_latents_are_vectors_that_samples_come_back_from():
    model = moved(points(num_classes=3, condition_features=2))
    x, y = torch.randn(6, 2).double(), torch.arange(6) % 3
    z = model.encode(x, y)
    assert z.shape == (6, 2)
    torch.testing.assert_close(model.decode(z, y), x)
    assert not torch.allclose(model.decode(z, (y + 1) % 3), x)
    for ability in (Interpolates, HasVectorLatents, HasLikelihood, BoundsLikelihood):
        assert isinstance(model, ability)
    assert (model.latent_dim, model.varied_dim) == (2, 2)


def test_digits_come_back_exactly():
    model, x = digits(), Digits(image_size=8).examples(16)["x"]
    expected = (((x + 1) * 8).round() / 8) - 1  # stored as bytes, which are no exact sixteenths
    torch.testing.assert_close(model.reconstruct(x), expected)
    drawn = model.sample(6, seeds=SEEDS)
    torch.testing.assert_close((drawn + 1) * 8, ((drawn + 1) * 8).round())


def test_interpolation_follows_the_base():
    model, others = moved(points()), sample_seeds(4, torch.arange(6))
    a, b = (Noise(seeds).normal(2, dtype=torch.float64) for seeds in (SEEDS, others))
    z = [model.encode(model.interpolate(SEEDS, others, torch.full((6,), t))) for t in (0.0, 0.3, 1.0)]
    torch.testing.assert_close(z[1], slerp(z[0], z[2], torch.full((6,), 0.3)))
    torch.testing.assert_close(z[0], a, rtol=1e-4, atol=1e-5)  # whose streams are drawn in 32 bits
    torch.testing.assert_close(z[2], b, rtol=1e-4, atol=1e-5)


def test_the_base_is_drawn_from():
    model = moved(points(base=StandardLogistic), 0.0)
    z = model.encode(model.sample(4000, seeds=sample_seeds(0, torch.arange(4000))))
    assert z.var(0).tolist() == pytest.approx([3.29, 3.29], rel=0.1)


# -------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"base": Longer},
            "model.init_args.base is Longer, which makes vectors of 3 numbers, but the flow's noise has 2",
        ),
        ({"num_classes": 3}, "num_classes is 3 and condition_features None: set both"),
        ({"condition_features": 3}, "num_classes is None and condition_features 3: set both"),
        ({"num_classes": 3, "condition_features": 0}, "condition_features 0: .*at least 1"),
    ],
)
def test_arguments_are_checked(options, words):
    with pytest.raises(UserError, match=words):
        points(**options)


@pytest.mark.parametrize(
    ("make", "data", "words"),
    [
        (partial(points, Logit), Moons2D(num_samples=64), "Logit is of values from -1 to 1, but data has some from"),
        (partial(digits, dequantisation=UniformDequantisation(16)), Digits(image_size=8), "has 16 levels"),
        (digits, Digits(image_size=16), r"sample_shape is \[1, 8, 8\] but data gives samples of shape \[1, 16, 16\]"),
        (
            partial(points, partial(Standardise, mean=float("inf"))),
            Moons2D(num_samples=64),
            "model.init_args.flow gives samples of data a log-density of -inf",
        ),
    ],
    ids=["range", "levels", "shape", "infinite"],
)
def test_unfit_data_are_told_before_training(make, data, words, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(max_steps=1).fit(make(), data)


def test_classes_that_data_do_not_have_are_told(make_trainer):
    with pytest.raises(UserError, match="num_classes"):
        make_trainer(max_steps=1).fit(points(num_classes=2, condition_features=2), Moons2D(num_samples=64))
