"""Checkpoints from elsewhere are data: nothing in them runs, and what is wrong with one is said in one sentence."""

import copy
import pickle
import sys
import zipfile
from argparse import ArgumentError

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

from lightning_gen.checkpoints import configuration, instantiate, load, load_state, read_checkpoint
from lightning_gen.errors import UserError
from lightning_gen.families import GAN
from lightning_gen.losses import AdversarialLoss, Hinge
from lightning_gen.model import GenerativeModel
from lightning_gen.networks import MLPDiscriminator, MLPGenerator
from lightning_gen.trust import check_trusted, only_trusted

GENERATOR = {"class_path": "lightning_gen.networks.MLPGenerator", "init_args": {"width": 8}}
ADAM = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
CONFIG = {
    "model": {
        "class_path": "lightning_gen.families.GAN",
        "init_args": {
            "generator": GENERATOR,
            "discriminator": {"class_path": "lightning_gen.networks.MLPDiscriminator", "init_args": {"width": 8}},
            "loss": {"class_path": "lightning_gen.losses.Hinge"},
            "generator_optimizer": ADAM,
            "discriminator_optimizer": ADAM,
        },
    },
    "data": {"class_path": "lightning_gen.data.Ring2D", "init_args": {"num_samples": 64}},
}


def small_gan(width=8, **options):
    return GAN(MLPGenerator(width=width, **options), MLPDiscriminator(width=width, **options), Hinge(), None, None)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": small_gan().state_dict(), "config": CONFIG, "global_step": 3}, path)
    return path


def refused(function, *arguments):
    """The sentence of a refusal."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# -------------------------------------------------------------------- files


def test_a_checkpoint_rebuilds_model_and_data(path):
    model, data, weights = load(path)
    assert (weights, type(model).__name__, type(data).__name__) == ("raw", "GAN", "Ring2D")
    assert not model.training
    assert model.config == CONFIG
    assert data.num_samples == 64
    state = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_missing_file(tmp_path):
    sentence = refused(read_checkpoint, tmp_path / "gone.ckpt")
    assert "gone.ckpt" in sentence
    assert "does not exist" in sentence


def test_a_folder(tmp_path):
    assert str(tmp_path) in refused(read_checkpoint, tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short(part, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    sentence = refused(read_checkpoint, path)
    assert "a.ckpt" in sentence
    assert "cut short" in sentence


@pytest.mark.parametrize("content", [b"hello\n", b"\x89PNG\r\n\x1a\n" + bytes(100), b"{'state_dict': 1}"])
def test_a_file_of_another_kind(content, path):
    path.write_bytes(content)
    sentence = refused(read_checkpoint, path)
    assert "a.ckpt" in sentence
    assert "not a checkpoint" in sentence


def test_a_zip_of_something_else(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")
    assert "a.ckpt" in refused(read_checkpoint, path)


@pytest.mark.parametrize(
    "content", [torch.zeros(3), {"weights": torch.zeros(3)}, [1, 2]], ids=["tensor", "dict", "list"]
)
def test_a_file_of_tensors_without_a_model(content, path):
    torch.save(content, path)
    assert "holds no model" in refused(read_checkpoint, path)


ran = []


class Malicious:
    def __reduce__(self):
        return (ran.append, ("ran",))


@pytest.mark.parametrize("where", ["state_dict", "config", "hyper_parameters"])
def test_code_in_a_checkpoint_never_runs(where, path):
    torch.save({"state_dict": {}, "config": CONFIG} | {where: Malicious()}, path)
    with pytest.raises(UserError, match="more than plain values and tensors"):
        load(path)
    with path.open("wb") as file:
        pickle.dump({"state_dict": Malicious()}, file)
    with pytest.raises(UserError):
        load(path)
    assert not ran


def test_pickled_modules_are_refused(path):
    torch.save({"state_dict": {}, "model": small_gan()}, path)
    assert "more than plain values and tensors" in refused(read_checkpoint, path)


# -------------------------------------------------------------------- what a configuration may name


def test_what_this_package_and_torch_offer_is_trusted():
    check_trusted(CONFIG)
    check_trusted(
        {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"filename": "step={step}"}}
    )
    check_trusted({"path": "images.npz", "root": "/data/os.d", "n": 3, "names": ["a b", "x"], "none": None})


@pytest.mark.parametrize(
    "config",
    [
        {"class_path": "evil.Model"},
        {"model": {"init_args": {"loss": [{"class_path": "evil.Model"}]}}},
        {"class_path": "os.system"},
        {"class_path": "torch.hub.load"},
        {"class_path": "torch.load"},
        {"class_path": "torch.utils.cpp_extension.load"},
        {"class_path": "lightning_generous.Model"},
        {"class_path": "lightning.pytorch.cli.LightningCLI"},
        {"class_path": "builtins.eval"},
    ],
    ids=str,
)
def test_other_classes_are_refused_and_named(config):
    sentence = refused(check_trusted, config)
    name = next(n for n in str(config).replace("'", " ").split() if "." in n)
    assert name in sentence
    assert f"--allow {name.split('.')[0]}" in sentence


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A module that a checkpoint has no business to import, and a configuration file that names it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere.py").write_text("from lightning_gen.losses import Hinge\nclass Loss(Hinge): pass\n")
    (tmp_path / "loss.yaml").write_text("class_path: elsewhere.Loss\n")
    sys.modules.pop("elsewhere", None)
    yield
    sys.modules.pop("elsewhere", None)


def with_argument(path, name, value):
    """The checkpoint at `path` with another argument of its model."""
    config = copy.deepcopy(CONFIG)
    config["model"]["init_args"][name] = value
    torch.save({"state_dict": small_gan().state_dict(), "config": config}, path)


@pytest.mark.parametrize(
    "value",
    [
        {"class_path": "elsewhere.Loss"},
        "elsewhere.Loss",
        '{"class_path": "elsewhere.Loss"}',  # the parser reads a text as YAML where a class is expected,
        "class_path: elsewhere.Loss",
        "loss.yaml",  # or as the name of a file
    ],
    ids=str,
)
def test_no_notation_imports_what_is_not_trusted(value, path, elsewhere):
    with_argument(path, "loss", value)
    with pytest.raises((UserError, ArgumentError)):
        load(path)
    assert "elsewhere" not in sys.modules


@pytest.mark.parametrize("value", [{"class_path": "elsewhere.Loss"}, '{"class_path": "elsewhere.Loss"}'], ids=str)
def test_what_is_allowed_is_imported(value, path, elsewhere):
    with_argument(path, "loss", value)
    assert type(load(path, allow="elsewhere")[0].loss).__module__ == "elsewhere"


@pytest.mark.parametrize(
    "name",
    [
        "lightning_gen.checkpoints.os.system",
        "lightning_gen.checkpoints.torch.load",
        "torch.optim.optimizer.torch.load",
    ],
)
def test_what_trusted_modules_import_is_not_trusted(name, path):
    # an import path reaches whatever stands in a module, not only what is defined there
    with_argument(path, "generator_optimizer", name)
    with pytest.raises((UserError, ArgumentError), match=name):
        load(path)


@pytest.mark.parametrize("name", ["os.system", "torch.hub.load", "subprocess.Popen"])
def test_a_function_elsewhere_is_not_imported(name, path):
    with_argument(path, "generator_optimizer", name)
    with pytest.raises((UserError, ArgumentError), match=name):
        load(path)


@pytest.mark.parametrize("name", ["lightning_gen.checkpoints.os.system", "os.rename", "torch.load"])
def test_a_callback_cannot_bind_what_is_not_trusted(name, path):
    config = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_predict_start": name}}
    check_trusted(config)  # the class is trusted, its argument is found when the parser meets it
    with only_trusted(), pytest.raises((UserError, ArgumentError), match="not allowed"):
        instantiate(Callback, config)


def test_a_schedule_cannot_bind_what_is_not_trusted(path):
    schedule = {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "os._exit"}}
    with_argument(path, "generator_scheduler", schedule)
    with pytest.raises((UserError, ArgumentError), match="not allowed"):
        load(path)


def test_trust_ends_with_the_checkpoint(path, elsewhere):
    load(path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AdversarialLoss, "loss")
    assert parser.parse_object({"loss": {"class_path": "elsewhere.Loss"}}).loss.class_path == "elsewhere.Loss"


def test_allowing_a_package_allows_its_classes_only():
    config = {"a": {"class_path": "mine.Net"}, "b": {"class_path": "yours.Net"}}
    check_trusted(config, "mine,yours")
    sentence = refused(check_trusted, config, "mine")
    assert "yours.Net" in sentence
    assert "mine.Net" not in sentence
    assert "minefield.Net" in refused(check_trusted, {"class_path": "minefield.Net"}, "mine")


def test_several_packages_are_named_at_once():
    sentence = refused(check_trusted, [{"class_path": "b.X"}, {"class_path": "a.Y"}, {"class_path": "a.Z"}])
    assert "a.Y, a.Z, b.X" in sentence
    assert "--allow a,b" in sentence


@pytest.mark.parametrize("checkpoint", [{}, {"config": None}, {"config": {}}])
def test_a_checkpoint_without_configuration(checkpoint):
    assert "a.ckpt carries no configuration" in refused(configuration, checkpoint, "a.ckpt")


# -------------------------------------------------------------------- weights of another model


def test_another_architecture_is_counted_and_exemplified():
    checkpoint = {"state_dict": small_gan(depth=2).state_dict()}
    sentence = refused(load_state, small_gan(depth=3), checkpoint, "raw")
    assert "4 tensors of the configured model are missing" in sentence
    assert "0 are unknown" in sentence
    assert "'discriminator.layers." in sentence
    sentence = refused(load_state, small_gan(depth=2), {"state_dict": small_gan(depth=3).state_dict()}, "raw")
    assert "0 tensors of the configured model are missing" in sentence
    assert "4 are unknown" in sentence


def test_another_shape_is_told_with_both():
    sentence = refused(load_state, small_gan(width=16), {"state_dict": small_gan(width=8).state_dict()}, "raw")
    assert "'generator.layers.0.weight' is (8, 16) in it and (16, 16)" in sentence


def test_a_refused_checkpoint_changes_nothing():
    model = small_gan(depth=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    refused(load_state, model, {"state_dict": small_gan(depth=2).state_dict()}, "raw")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_resuming_another_architecture_is_refused(make_gan, make_ring, make_trainer, tmp_path):
    trainer = make_trainer(max_steps=1)
    trainer.fit(make_gan(), make_ring())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    other = make_gan(generator=MLPGenerator(latent_dim=4, width=24, depth=2))
    with pytest.raises(UserError, match=r"another shape.*generator"):
        make_trainer(max_steps=2).fit(other, make_ring(), ckpt_path=tmp_path / "a.ckpt")


# -------------------------------------------------------------------- building


@pytest.mark.parametrize("name", ["GAN", "lightning_gen.families.GAN", "lightning_gen.families.gan.GAN"])
def test_classes_go_by_short_and_long_names(name):
    assert isinstance(instantiate(GenerativeModel, CONFIG["model"] | {"class_path": name}), GAN)


def test_building_fills_in_defaults_without_touching_the_configuration():
    before = str(CONFIG)
    model = instantiate(GenerativeModel, CONFIG["model"])
    assert model.num_critic_steps == 1
    assert model.generator.latent_dim == 16
    assert str(CONFIG) == before
