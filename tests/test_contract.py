"""What every family keeps, whatever it is made of: one contract, parametrised over models."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.data import Digits, Moons2D, Ring2D
from lightning_gen.errors import UserError
from lightning_gen.losses import Hinge, NonSaturating
from lightning_gen.networks import DCGANDiscriminator, DCGANGenerator, MLPDiscriminator, MLPGenerator
from lightning_gen.noise import Noise, sample_seeds

sys.path.append(str(Path(__file__).parent))
from models import BUILDERS, build, gan

# what they learn depends on the data and on how they start
WITHOUT_NOISE = {"vqvae", "vqvae2", "vqgan", "latent_prior", "latent_density"}


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(params=BUILDERS)
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return build(name)


@pytest.fixture
def seeds():
    return sample_seeds(7, torch.arange(6))


def test_what_validation_says_of_a_density_is_the_density(model, name, make_trainer):
    if "val_nats" not in model.held_out_names:
        pytest.skip("no density")
    data = BUILDERS[name][1]()
    trainer = make_trainer(max_steps=1, limit_val_batches=1.0)
    (logged,) = trainer.validate(model, data, verbose=False)
    rows = next(iter(data.rows("val", 0, 1, len(data.split("val")))))
    rows = data.on_after_batch_transfer({**rows, "index": torch.arange(len(rows["x"]))}, 0)
    nats = model.held_out(rows)["val_nats"]
    assert nats.std() > 0
    assert logged["val_nats"] == pytest.approx(float(nats.double().mean()), rel=1e-5)


# -------------------------------------------------------------------- sampling


def test_samples_have_the_form_of_the_data(name, model, seeds):
    x = model.sample(6, seeds=seeds)
    assert x.shape == (6, *BUILDERS[name][2])
    assert x.dtype == torch.float32
    assert x.device == model.device
    assert not x.requires_grad
    assert x.unique(dim=0).shape[0] == 6
    assert tuple(BUILDERS[name][1]().sample_shape) == x.shape[1:]


def test_sampling_leaves_the_mode_of_every_module(model, seeds):
    model.train()
    frozen = list(model.modules())[-1]
    frozen.eval()
    before = [(m, m.training) for m in model.modules()]
    weights = state(model)
    model.sample(6, seeds=seeds)
    assert [(m, m.training) for m in model.modules()] == before
    assert same(state(model), weights)


def test_modes_come_back_when_sampling_fails(model, seeds, monkeypatch):
    def fail(noise, y):
        assert not any(m.training for m in model.modules())
        raise ZeroDivisionError

    monkeypatch.setattr(model, "generate", fail)
    model.train()
    before = [m.training for m in model.modules()]
    with pytest.raises(ZeroDivisionError):
        model.sample(6, seeds=seeds)
    assert [m.training for m in model.modules()] == before
    assert any(before)


@pytest.mark.parametrize("sizes", [[1] * 6, [4, 2], [5, 1]])
def test_a_sample_depends_on_its_seed_alone(model, seeds, sizes):
    model.train()
    whole = model.sample(6, seeds=seeds)
    parts = torch.cat([model.sample(len(part), seeds=part) for part in seeds.split(sizes)])
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(model.sample(6, seeds=seeds[order]), whole[order], rtol=0, atol=1e-5)


def test_its_noise_is_the_same_bit_for_bit(model, seeds, monkeypatch):
    drawn = {}

    def spy(noise, y):
        z = noise.normal(3)
        for seed, row, label in zip(noise.seeds.tolist(), z, y if y is not None else z, strict=True):
            drawn.setdefault(seed, []).append((row, label))
        return z

    monkeypatch.setattr(model, "generate", spy)
    model.sample(6, seeds=seeds)
    for part in seeds.flip(0).split([2, 1, 3]):
        model.sample(len(part), seeds=part)
    for (z1, y1), (z2, y2) in drawn.values():
        assert torch.equal(z1, z2)
        assert torch.equal(y1, y2)


def test_the_global_generator_is_used_only_without_seeds(model, seeds):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model.sample(6, seeds=seeds)
    assert torch.equal(torch.get_rng_state(), before)
    first, second = model.sample(6), model.sample(6)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(model.sample(6), first)


def test_no_samples_are_no_error(name, model):
    assert model.sample(0).shape == (0, *BUILDERS[name][2])


def test_seeds_of_another_number_are_refused(model, seeds):
    with pytest.raises((ValueError, UserError)):
        model.sample(5, seeds=seeds)


def test_classes_of_an_unconditional_model_are_refused(model, seeds):
    if model.num_classes is not None:
        pytest.skip("conditional")
    with pytest.raises(UserError, match="unconditional"):
        model.sample(6, torch.zeros(6, dtype=torch.int64), seeds=seeds)


def test_classes_are_obeyed():
    model, seeds = build("gan_grey_conditional"), sample_seeds(0, torch.arange(10))
    z = Noise(seeds)
    z.integers(10)
    z, y = z.normal(8), torch.arange(10)
    with torch.no_grad():
        expected = model.generator.eval()(z, y)
    torch.testing.assert_close(model.sample(10, y, seeds=seeds), expected)
    assert not torch.allclose(model.sample(10, (y + 1) % 10, seeds=seeds), expected)


def test_classes_are_drawn_uniformly_where_none_are_given(monkeypatch):
    model = build("gan_grey_conditional")
    monkeypatch.setattr(model, "generate", lambda noise, y: y)
    y = model.sample(5000, seeds=sample_seeds(0, torch.arange(5000)))
    counts = torch.bincount(y, minlength=10)
    assert len(counts) == 10
    assert ((counts - 500).abs() < 5 * 450**0.5).all()


@pytest.mark.parametrize("y", [[10] * 64, [-1] * 64], ids=["above", "below"])
def test_classes_that_do_not_exist_are_refused_in_one_sentence(y):
    with pytest.raises(UserError, match="0 to 9") as error:
        build("gan_grey_conditional").sample(64, torch.tensor(y))
    assert str(y[0]) in str(error.value)
    assert len(str(error.value)) < 200


def test_classes_of_another_number_are_refused():
    with pytest.raises((ValueError, UserError)):
        build("gan_grey_conditional").sample(3, torch.tensor([1, 2]))


# -------------------------------------------------------------------- training


@pytest.fixture
def fit(make_trainer):
    def run(model, name, *callbacks, steps=4, ckpt_path=None, **options):
        trainer = make_trainer(*callbacks, max_steps=steps, **options)
        trainer.fit(model, BUILDERS[name][1](), ckpt_path=ckpt_path)
        return trainer

    return run


def test_every_weight_is_trained_and_steps_are_counted(name, model, fit):
    before = state(model)
    trainer = fit(model, name)
    assert trainer.global_step == 4
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        assert not torch.equal(parameter, before[key]), key
        assert parameter.isfinite().all()


def test_training_is_a_function_of_the_seed(name, fit):
    found = []
    for seed in (0, 0, 1):
        model = build(name)
        torch.manual_seed(seed)
        fit(model, name)
        found.append(state(model))
    assert same(found[0], found[1])
    assert same(found[0], found[2]) == (name in WITHOUT_NOISE)


def test_a_killed_run_resumes_to_the_same_weights(name, fit, tmp_path):
    whole = build(name)
    fit(whole, name, steps=9)
    torch.manual_seed(0)
    fit(build(name), name, LastCheckpoint(), steps=5)
    torch.manual_seed(99)
    resumed = build(name, seed=5)
    trainer = fit(resumed, name, steps=9, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert trainer.global_step == 9
    assert same(state(resumed), state(whole))


def test_a_checkpoint_holds_plain_values_and_the_configuration(name, model, fit, tmp_path):
    model.config = {"model": {"class_path": "GAN"}, "data": None}
    fit(model, name, LastCheckpoint(), steps=2)
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["config"] == model.config
    assert isinstance(checkpoint["seed"], int)
    assert checkpoint["global_step"] == 2
    assert same(checkpoint["state_dict"], state(model))


def test_state_makes_a_round_trip(name, model, seeds):
    other = build(name, seed=1)
    assert not torch.equal(other.sample(6, seeds=seeds), model.sample(6, seeds=seeds))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.sample(6, seeds=seeds), model.sample(6, seeds=seeds))


def test_a_deep_copy_is_equal_and_apart(model, seeds):
    twin = copy.deepcopy(model)
    assert torch.equal(twin.sample(6, seeds=seeds), model.sample(6, seeds=seeds))
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert not same(state(twin), state(model))


def test_validation_test_and_prediction_run(name, model, make_trainer):
    trainer = make_trainer(limit_val_batches=1, limit_test_batches=1)
    data = BUILDERS[name][1](num_predict=11)
    trainer.validate(model, data, verbose=False)
    trainer.test(model, data, verbose=False)
    x = torch.cat(trainer.predict(model, data))
    assert x.shape == (11, *BUILDERS[name][2])


# -------------------------------------------------------------------- model and data together


def dcgan(**options):
    return gan(DCGANGenerator(width=4, **options), DCGANDiscriminator(width=4, **options), Hinge())


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (
            dcgan(image_size=8, channels=3),
            Digits(image_size=8),
            ("generator.init_args.channels", "data.init_args.channels", "(3, 8, 8)", "(1, 8, 8)"),
        ),
        (
            dcgan(image_size=16, channels=1),
            Digits(image_size=8),
            ("generator.init_args.image_size", "data.init_args.image_size", "(1, 16, 16)", "(1, 8, 8)"),
        ),
        (dcgan(image_size=8, channels=1, num_classes=4), Digits(image_size=8), ("num_classes", "10", "4")),
        (dcgan(image_size=8, channels=1), Ring2D(), ("(1, 8, 8)", "(2,)")),
        (
            gan(DCGANGenerator(8, 1, width=4), DCGANDiscriminator(8, 3, width=4), Hinge()),
            Digits(image_size=8),
            ("discriminator.init_args", "channels", "(1, 8, 8)"),
        ),
        (
            gan(DCGANGenerator(8, 1, width=4), DCGANDiscriminator(16, 1, width=4), Hinge()),
            Digits(image_size=8),
            ("discriminator", "image_size"),
        ),
        (
            gan(DCGANGenerator(16, 1, width=4), DCGANDiscriminator(8, 1, width=4), Hinge()),
            Digits(image_size=16),
            ("discriminator", "image_size"),
        ),
    ],
    ids=["channels", "image_size", "classes", "kind", "critic_channels", "critic_too_large", "critic_too_small"],
)
def test_disagreement_is_told_before_training(model, data, words, make_trainer):
    with pytest.raises(UserError) as error:
        make_trainer(max_steps=1).fit(model, data)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_conditional_model_needs_classes(make_trainer):
    model = gan(MLPGenerator(num_classes=2), MLPDiscriminator(num_classes=2), Hinge())
    with pytest.raises(UserError, match="num_classes"):
        make_trainer(max_steps=1).fit(model, Moons2D(num_samples=64))


def test_checking_leaves_the_model_alone(name, model, make_trainer):
    weights, modes = state(model), [m.training for m in model.modules()]
    model.check_data(BUILDERS[name][1]())
    assert same(state(model), weights)
    assert [m.training for m in model.modules()] == modes
    assert all(isinstance(m, nn.Module) for m in model.children())


def test_channels_last_changes_the_layout_and_samples_by_rounding(seeds):
    def build(**options):
        torch.manual_seed(0)
        image = {"image_size": 16, "channels": 1, "width": 4}
        return gan(DCGANGenerator(**image), DCGANDiscriminator(**image), NonSaturating(), **options)

    def weight(model):  # of several channels: with one, both layouts are the same
        return next(m for m in model.modules() if isinstance(m, nn.Conv2d) and m.in_channels > 1).weight

    plain, last = build(), build(channels_last=True)
    assert weight(last).is_contiguous(memory_format=torch.channels_last)
    assert not weight(last).is_contiguous()
    assert same(state(plain), state(last))
    torch.testing.assert_close(plain.sample(6, seeds=seeds), last.sample(6, seeds=seeds), rtol=0, atol=1e-5)
    last.load_state_dict(plain.state_dict())
    assert not weight(last).is_contiguous()
