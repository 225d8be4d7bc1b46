"""The family PixelCNN: its likelihood, its samples, and what it refuses."""

import math
from functools import partial

import pytest
import torch

from lightning_gen.abilities import HasLikelihood
from lightning_gen.data import Digits, Ring2D, Thresholded
from lightning_gen.errors import UserError
from lightning_gen.families import PixelCNN
from lightning_gen.losses.pixel_likelihoods import CategoricalPixels, LogisticMixturePixels
from lightning_gen.metrics import NegativeLogLikelihood, measure_held_out
from lightning_gen.networks.pixel import GatedPixelNetwork, MaskedPixelCNN, PixelCNNPlusPlus, draw_plainly
from lightning_gen.noise import Noise

ADAM = partial(torch.optim.Adam, lr=0.01)
GATED = partial(GatedPixelNetwork, width=4, depth=2, head_width=8)
DIGITS = partial(Digits, image_size=8, batch_size=32)


def make(network=GATED, likelihood=None, shape=(1, 8, 8), **options):
    torch.manual_seed(0)
    return PixelCNN(network, list(shape), likelihood or CategoricalPixels(17), ADAM, **options)


def digits(n):
    return DIGITS().examples(n)["x"]


def test_log_p_is_a_sum_over_pixels_of_what_is_known_at_each():
    model, x = make().double(), digits(2).double()
    exact = (x + 1).mul(8).round()  # sixteenths, of which bytes are roundings
    assert not torch.equal(exact / 8 - 1, x)
    expected = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for n in range(64):
            known = (exact / 8 - 1).flatten(2).clone()
            known[:, :, n:] = 0.7  # of no matter
            logits = model.network(known.view(2, 1, 8, 8))[:, :, 0].flatten(2)[:, :, n]
            expected += logits.log_softmax(1).gather(1, exact.flatten(1)[:, n, None].long())[:, 0]
    torch.testing.assert_close(model.log_prob(x), expected)
    assert model.loss({"x": x})[0].item() == pytest.approx(-expected.mean().item())


def test_held_out_numbers_are_nats_and_bits_a_pixel():
    model = make().eval()
    assert isinstance(model, HasLikelihood)
    assert model.exact_likelihood
    assert model.discrete
    found = model.held_out({"x": digits(8), "index": torch.arange(8)})
    assert found.keys() == set(model.held_out_names)
    torch.testing.assert_close(found["val_nats"], -model.log_prob(digits(8)))
    torch.testing.assert_close(found["val_bits_per_dim"], found["val_nats"] / 64 / math.log(2))
    measured = measure_held_out(
        model, DIGITS(), [NegativeLogLikelihood()], split="val", num_rows=16, batch_size=8, seed=0
    )
    (nats,) = (value for name, value in measured.items() if name.endswith("nll_nats"))
    (bits,) = (value for name, value in measured.items() if name.endswith("nll_bits_per_dim"))
    assert bits == pytest.approx(nats / 64 / math.log(2))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_are_those_of_the_plain_sampler(temperature):
    model = make(temperature=temperature).eval()
    seeds = torch.arange(4)
    expected = draw_plainly(model.network, model.likelihood, Noise(seeds), None, temperature)
    assert torch.equal(model.sample(4, seeds=seeds), expected)
    assert set(expected.mul(8).unique().frac().tolist()) == {0.0}


def test_classes_are_obeyed():
    model = make(partial(GATED, num_classes=3)).eval()
    seeds, y = torch.arange(3), torch.tensor([0, 1, 2])
    noise = Noise(seeds)
    noise.integers(3)
    expected = draw_plainly(model.network, model.likelihood, noise, y)
    assert torch.equal(model.sample(3, y, seeds=seeds), expected)
    assert model.num_classes == 3
    x = digits(3)
    assert not torch.allclose(model.log_prob(x, y), model.log_prob(x, y.flip(0)))


def test_attributes_are_conditions_too():
    model = make(partial(GATED, num_classes=2), attributes=["round", "slanted"])
    y = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert model.sample(2, y, seeds=torch.arange(2)).shape == (2, 1, 8, 8)
    assert model.log_prob(digits(2), y).isfinite().all()


def test_images_are_completed():
    model, x = make(), digits(4)
    model.train()
    whole = model.complete(x, 4, seeds=torch.arange(4))
    assert model.training
    exact = model.likelihood.quantise(x)
    assert torch.equal(whole[:, :, :4], exact[:, :, :4])
    assert not torch.equal(whole[:, :, 4:], exact[:, :, 4:])
    assert torch.equal(model.complete(x, 0, seeds=torch.arange(4)), model.sample(4, seeds=torch.arange(4)))
    assert torch.equal(model.complete(x, 8), exact)
    assert torch.equal(whole[2:], model.complete(x[2:], 4, seeds=torch.arange(4)[2:]))
    with pytest.raises(UserError, match="given 9 rows: images have 8"):
        model.complete(x, 9)
    with pytest.raises(UserError, match="complete needs y"):
        make(partial(GATED, num_classes=3)).complete(x, 4)


def test_what_the_likelihood_needs_is_what_the_network_gives():
    for likelihood, turns, parameters in ((CategoricalPixels(5), 3, 5), (LogisticMixturePixels(5, 2), 1, 20)):
        model = make(likelihood=likelihood, shape=(3, 4, 4))
        assert model.network(torch.zeros(2, 3, 4, 4)).shape == (2, parameters, turns, 4, 4)
        assert model.sample(2).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    "network",
    [
        partial(MaskedPixelCNN, width=8, depth=1, head_width=16),
        GATED,
        partial(PixelCNNPlusPlus, width=6, depth=1, num_sizes=2, dropout=0.0),
    ],
)
def test_it_learns(network):
    model = make(network)
    x = digits(128)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(25):
        loss, _ = model.loss({"x": x})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / 64 / math.log(2))
    assert losses[0] < math.log2(17) + 0.5
    assert losses[-1] < losses[0] - 1


def test_data_of_other_levels_are_refused_before_training(make_trainer):
    for levels in (16, 256):
        model = make(likelihood=CategoricalPixels(levels))
        with pytest.raises(UserError, match=rf"CategoricalPixels has {levels} levels.*data has.*17"):
            make_trainer(max_steps=1).fit(model, DIGITS())
    make(likelihood=CategoricalPixels(2)).check_data(Thresholded(Digits(image_size=8), batch_size=8))


def test_checking_draws_no_images(monkeypatch):
    model = make()
    monkeypatch.setattr(model, "draw_values", None)
    model.check_data(DIGITS())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (partial(make, shape=(2,)), r"sample_shape is \[2\]: PixelCNN models images"),
        (partial(make, temperature=0.0), "temperature is 0.0: it must be above 0"),
    ],
)
def test_what_is_not_possible_is_refused(build, words):
    with pytest.raises(UserError, match=words):
        build()


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match=r"sample_shape is \[1, 8, 8\] but data gives samples of shape \[2\]"):
        make().check_data(Ring2D())
