"""VQ-VAEs of one and two levels: their losses, codes, latents, set-up and checkpoints."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from vqvae_fakes import TinyMapDecoder, TinyMapEncoder

from lightning_gen.abilities import HasCodes, Interpolates, Reconstructs
from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.data import Digits, Moons2D
from lightning_gen.distributions.quantisers import (
    FiniteScalarQuantiser,
    GradientVectorQuantiser,
    GumbelQuantiser,
    LookupFreeQuantiser,
    ResidualQuantiser,
    VectorQuantiser,
)
from lightning_gen.errors import UserError
from lightning_gen.families import VQVAE, VQVAE2
from lightning_gen.losses.likelihoods import Bernoulli, Gaussian
from lightning_gen.noise import sample_seeds

ADAM = partial(torch.optim.Adam, lr=2e-3)
VECTOR = partial(VectorQuantiser, num_codes=6, dim=3, dead_after=3)
DIGITS = partial(Digits, image_size=8, batch_size=8)


def one_level(quantiser=VECTOR, num_classes=None, likelihood=None, **options):
    torch.manual_seed(options.pop("seed", 0))
    options = {"sample_shape": [1, 8, 8]} | options
    decoder = partial(TinyMapDecoder, num_classes=num_classes)
    return VQVAE(
        TinyMapEncoder(num_classes=num_classes),
        decoder,
        likelihood or Gaussian(0.5),
        ADAM,
        quantiser=quantiser,
        **options,
    )


def two_levels(quantiser=VECTOR, num_classes=None, seed=0, top_decoder=TinyMapDecoder, **options):
    torch.manual_seed(seed)
    networks = TinyMapEncoder(5, num_classes=num_classes), TinyMapEncoder(4, 5), top_decoder
    decoder = partial(TinyMapDecoder, num_classes=num_classes)
    return VQVAE2(*networks, decoder, Gaussian(0.5), ADAM, [1, 8, 8], quantiser=quantiser, **options)


RESIDUAL = partial(ResidualQuantiser, num_codes=6, dim=3, num_levels=2)
BUILDERS = {
    "one": (one_level, ((4, 4),), 3),
    "one_residual": (partial(one_level, RESIDUAL), ((4, 4), (4, 4)), 3),
    "one_conditional": (partial(one_level, num_classes=10), ((4, 4),), 3),
    "two": (two_levels, ((2, 2), (4, 4)), 6),
    "two_residual": (partial(two_levels, RESIDUAL), ((2, 2), (2, 2), (4, 4), (4, 4)), 6),
    "two_conditional": (partial(two_levels, num_classes=10), ((2, 2), (4, 4)), 6),
}


@pytest.fixture(params=BUILDERS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return BUILDERS[name][0]()


@pytest.fixture
def x():
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def y(model):
    return None if model.num_classes is None else torch.arange(5)


def batch_of(x, y):
    return {"x": x} if y is None else {"x": x, "y": y}


def state(model):
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# -------------------------------------------------------------------- codes and latents


def test_codes_stand_for_the_latents(name, model, x, y):
    _, shapes, dim = BUILDERS[name]
    model.loss(batch_of(x, y))  # starts the codebooks
    assert isinstance(model, HasCodes)
    assert isinstance(model, Reconstructs)
    assert isinstance(model, Interpolates)
    assert model.num_codes == 6
    assert model.code_shapes((1, 8, 8)) == shapes
    codes, z = model.codes(x, y), model.encode(x, y)
    assert codes.shape == (5, sum(h * w for h, w in shapes))
    assert z.shape == (5, dim, 4, 4)
    assert torch.equal(model.latents_of_codes(codes), z)
    assert torch.equal(model.decode_codes(codes, y), model.decode(z, y))
    assert torch.equal(model.reconstruct(x, y), model.decode(z, y))


def test_larger_samples_have_larger_maps():
    assert one_level().code_shapes((1, 16, 24)) == ((8, 12),)


def test_levels_come_coarse_to_fine(x):
    model = two_levels()
    model.loss({"x": x})
    codes, z = model.codes(x), model.encode(x)
    top = model.top_quantiser.lookup(codes[:, :4].view(5, 1, 2, 2))
    bottom = model.bottom_quantiser.lookup(codes[:, 4:].view(5, 1, 4, 4))
    assert torch.equal(z[:, :3], top.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    assert torch.equal(z[:, 3:], bottom)


def test_the_bottom_level_depends_on_the_top_level(x):
    model = two_levels()
    model.loss({"x": x})
    before = model.codes(x)
    with torch.no_grad():
        model.top_quantiser.codebook.vectors.mul_(-5)
    assert not torch.equal(model.codes(x)[:, 4:], before[:, 4:])


def test_samples_are_decoded_uniform_codes_and_depend_on_their_seeds(name, model):
    seeds = sample_seeds(3, torch.arange(6))
    whole = model.sample(6, seeds=seeds)
    assert whole.shape == (6, 1, 8, 8)
    parts = torch.cat([model.sample(len(part), seeds=part) for part in seeds.split([2, 1, 3])])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    found = []
    model.latents_of_codes = lambda codes: found.append(codes) or torch.zeros(len(codes), BUILDERS[name][2], 4, 4)
    model.sample(2000, seeds=sample_seeds(0, torch.arange(2000)))
    counts = torch.bincount(found[0].flatten(), minlength=6)
    expected = found[0].numel() / 6
    assert len(counts) == 6
    assert ((counts - expected).abs() < 5 * expected**0.5).all()


def test_the_way_between_samples_is_straight():
    model = one_level()
    a, b = sample_seeds(0, torch.arange(3)), sample_seeds(1, torch.arange(3))
    torch.testing.assert_close(model.interpolate(a, b, torch.zeros(3)), model.sample(3, seeds=a))
    torch.testing.assert_close(model.interpolate(a, b, torch.ones(3)), model.sample(3, seeds=b))
    u, v = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(model.between(u, v, torch.tensor([0.25, 0.5]))[0], 0.75 * u[0] + 0.25 * v[0])


# -------------------------------------------------------------------- the loss


def test_the_published_loss(x):
    model = one_level(likelihood=Gaussian(0.3))
    model.loss({"x": x})
    model.eval()
    total, terms = model.loss({"x": x})
    v = model.quantiser.project(model.encoder(x))
    error = (model.reconstruct(x) - x).square().mean()
    constant = 0.5 * torch.tensor(2 * torch.pi * 0.3**2).log()
    published = error / (2 * 0.3**2) + 0.25 * (v - model.encode(x)).square().mean()
    torch.testing.assert_close(total, published + constant)
    torch.testing.assert_close(terms["reconstruction"], -64 * (error / (2 * 0.3**2) + constant))
    doubled = one_level(likelihood=Gaussian(0.3), quantiser_weight=2.0)
    doubled.load_state_dict(model.state_dict())
    torch.testing.assert_close(doubled.eval().loss({"x": x})[0] - total, terms["quantiser_loss"])


def test_the_loss_of_two_levels_adds_up(x):
    model = two_levels()
    model.loss({"x": x})
    model.eval()
    total, terms = model.loss({"x": x})
    h = model.encoder(x)
    top = model.top_quantiser(model.top_encoder(h))
    given = model.top_decoder(top.z)[:, :, 0]
    bottom = model.bottom_quantiser(torch.cat((h, given), 1))
    z = torch.cat((torch.nn.functional.interpolate(top.z, scale_factor=2), bottom.z), 1)
    nats = -Gaussian(0.5)(model.decoder(z), x).mean()
    torch.testing.assert_close(total, nats / 64 + top.loss + bottom.loss)
    torch.testing.assert_close(terms["top_codebook_usage"], top.terms["codebook_usage"])
    torch.testing.assert_close(terms["bottom_codebook_perplexity"], bottom.terms["codebook_perplexity"])


QUANTISERS = {
    "vector": VECTOR,
    "gradient": partial(GradientVectorQuantiser, num_codes=6, dim=3),
    "residual": RESIDUAL,
    "finite_scalar": partial(FiniteScalarQuantiser, levels=(5, 4)),
    "lookup_free": partial(LookupFreeQuantiser, num_bits=3),
    "gumbel": partial(GumbelQuantiser, num_codes=6, dim=3),
}


@pytest.mark.parametrize("quantiser", QUANTISERS)
@pytest.mark.parametrize("build", [one_level, two_levels])
def test_training_reaches_every_weight_and_improves(build, quantiser, make_trainer):
    model = build(QUANTISERS[quantiser])
    examples = {"x": DIGITS().examples(64)["x"]}
    model.loss(examples)
    before, (_, start) = state(model), model.eval().loss(examples)
    make_trainer(max_steps=40).fit(model.train(), DIGITS(batch_size=32))
    for key, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[key]), key
    assert model.eval().loss(examples)[1]["reconstruction"] > start["reconstruction"] + 1


# -------------------------------------------------------------------- runs


def fit(model, make_trainer, *callbacks, steps, ckpt_path=None, **options):
    trainer = make_trainer(*callbacks, max_steps=steps, **options)
    trainer.fit(model, DIGITS(), ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("build", [one_level, two_levels])
def test_a_killed_run_resumes_to_the_same_weights(build, make_trainer, tmp_path):
    torch.manual_seed(0)
    whole = build()
    fit(whole, make_trainer, steps=9)
    torch.manual_seed(0)
    fit(build(), make_trainer, LastCheckpoint(), steps=5)
    torch.manual_seed(99)
    resumed = build(seed=5)
    fit(resumed, make_trainer, steps=9, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert same(state(resumed), state(whole))


def test_validation_measures_and_leaves_codebooks_alone(make_trainer, x):
    model = one_level()
    model.loss({"x": x})
    before = state(model)
    trainer = make_trainer(limit_val_batches=1.0)
    (found,) = trainer.validate(model, DIGITS(batch_size=50), verbose=False)
    assert same(state(model), before)
    data = DIGITS()
    batch = data.on_after_batch_transfer(data.split("val")[torch.arange(len(data.split("val")))], 0)
    expected = (model.reconstruct(batch["x"]) - batch["x"]).square().mean().item()
    assert found["val_mse"] == pytest.approx(expected, rel=1e-4)
    nats = -Gaussian(0.5)(model.decoder(model.encode(batch["x"])), batch["x"]).mean().item()
    assert found["val_reconstruction"] == pytest.approx(-nats, rel=1e-4)


def test_checking_leaves_the_model_alone(model):
    weights, modes = state(model), [m.training for m in model.modules()]
    model.check_data(DIGITS())
    assert same(state(model), weights)
    assert [m.training for m in model.modules()] == modes


def wrong_channels():
    return VQVAE(TinyMapEncoder(channels=3), TinyMapDecoder, Gaussian(), ADAM, [1, 8, 8])


@pytest.mark.parametrize(
    ("build", "data", "words"),
    [
        (partial(one_level, sample_shape=[1, 16, 16]), DIGITS, ("sample_shape", "[1, 16, 16]", "[1, 8, 8]")),
        (one_level, Moons2D, ("sample_shape", "[2]")),
        (wrong_channels, DIGITS, ("encoders", "[1, 8, 8]")),
        (partial(one_level, likelihood=Bernoulli()), DIGITS, ("Bernoulli", "binary")),
        (
            partial(one_level, partial(VectorQuantiser, num_codes=200)),
            DIGITS,
            ("VectorQuantiser.num_codes is 200", "128 vectors", "batch_size"),
        ),
        (partial(two_levels, partial(VectorQuantiser, num_codes=40)), DIGITS, ("num_codes is 40", "32 vectors")),
        (
            partial(two_levels, top_decoder=partial(TinyMapDecoder, channels=2)),
            DIGITS,
            ("top_decoder", "channels to 1"),
        ),
    ],
)
def test_what_does_not_fit_is_told_before_training(build, data, words, make_trainer):
    with pytest.raises(UserError) as error:
        make_trainer(max_steps=1).fit(build(), data())
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_small_batch_may_validate(make_trainer):
    make_trainer(limit_val_batches=1).validate(one_level(), DIGITS(batch_size=1), verbose=False)


@pytest.mark.parametrize("quantiser", [partial(FiniteScalarQuantiser, levels=(5, 4)), VECTOR])
def test_codes_are_counted_in_logged_steps_alone(quantiser, make_trainer):
    model, counted = one_level(quantiser), []

    class Spy(Callback):
        def on_train_batch_end(self, *_):
            counted.append(model.quantiser.counting)

    make_trainer(Spy(), max_steps=6, log_every_n_steps=3).fit(model, DIGITS())
    assert counted == [False, False, True] * 2
    assert "codebook_usage" in model.loss({"x": DIGITS().examples(8)["x"]})[1]


def test_networks_of_different_classes_are_refused():
    with pytest.raises(UserError, match=r"num_classes of a TinyMapEncoder .* is 3 but the decoder's is None"):
        VQVAE(TinyMapEncoder(num_classes=3), TinyMapDecoder, Gaussian(), ADAM, [1, 8, 8])
    with pytest.raises(UserError, match="quantiser_weight is -1"):
        one_level(quantiser_weight=-1.0)
