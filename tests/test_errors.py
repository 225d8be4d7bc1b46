"""Bad input ends in one sentence that names the key or file, the value and what would be right."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_gen.__main__ import main
from lightning_gen.callbacks import Evaluation, LastCheckpoint
from lightning_gen.checkpoints import load
from lightning_gen.commands import run
from lightning_gen.errors import UserError, nearest
from lightning_gen.metrics import FID, Raw
from lightning_gen.networks import MLPDiscriminator, MLPGenerator

RECIPE = str(Path(__file__).parents[1] / "configs" / "gan" / "dcgan_digits.yaml")
VAE = str(Path(__file__).parents[1] / "configs" / "vae" / "vae_digits.yaml")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fails(capsys):
    """A function that runs a command and returns its one sentence."""

    def call(*args):
        with pytest.raises(SystemExit) as stop:
            run([str(word) for word in args])
        assert stop.value.code == 2
        streams = capsys.readouterr()
        errors = [line for line in streams.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "Traceback" not in streams.out + streams.err
        # the sentence is the last thing said, and all of it is on its line
        assert streams.err.splitlines()[-1] == errors[0]
        sentence = errors[0].removeprefix("error: ")
        assert 20 < len(sentence) < 500
        assert "jsonargparse" not in sentence
        assert "Parser key" not in sentence
        return sentence

    return call


def edited(tmp_path, recipe=RECIPE, **changes):
    """The recipe with other values, by dotted keys with `__` for the dots; a `None` takes the key away."""
    settings = yaml.safe_load(Path(recipe).read_text())
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = settings
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def has(sentence, *words):
    for word in words:
        assert word in sentence, f"{word!r} is not in {sentence!r}"


# -------------------------------------------------------------------- commands and flags


@pytest.mark.parametrize(("word", "right"), [("fitt", "fit"), ("evalute", "evaluate"), ("samples", "sample")])
def test_an_unknown_command(fails, word, right):
    has(fails(word), word, f"did you mean {right!r}")


def test_an_unknown_command_without_a_neighbour(fails):
    sentence = fails("xyzzy")
    has(sentence, "xyzzy", "--help")
    assert "did you mean" not in sentence


@pytest.mark.parametrize("words", [["--trainer.maxsteps=3"], ["--trainer.maxsteps", "3"]], ids=["joined", "apart"])
def test_an_unknown_trainer_flag(fails, words):
    has(fails("fit", "--config", RECIPE, *words), "trainer.maxsteps", "'max_steps'")


def test_an_unknown_flag(fails):
    has(fails("fit", "--config", RECIPE, "--confg", "a.yaml"), "confg", "'config'")


def test_an_unknown_flag_of_an_own_command(fails):
    has(fails("sample", "--ckpt_path", "a.ckpt", "--numm", "3"), "numm", "'num'")


def test_an_unknown_flag_of_data(fails):
    has(fails("fit", "--config", RECIPE, "--data.batchsize=3"), "batchsize", "'batch_size'")


def test_an_unknown_trainer_key(fails, tmp_path):
    has(fails("fit", "--config", edited(tmp_path, trainer__max_step=3)), "trainer", "max_step", "'max_steps'")


def test_an_unknown_section(fails, tmp_path):
    has(fails("fit", "--config", edited(tmp_path, modle={"class_path": "GAN"})), "modle", "'model'")


def test_a_required_flag(fails):
    has(fails("sample"), "ckpt_path", "required")
    has(fails("evaluate", "--num_samples", "5"), "either --ckpt_path", "--samples")


def test_a_number_that_is_none(fails):
    has(fails("sample", "--ckpt_path", "a.ckpt", "--num", "many"), "num", "many")
    has(fails("fit", "--config", RECIPE, "--trainer.max_steps", "many"), "trainer.max_steps", "many")


def test_debug_shows_the_traceback():
    with pytest.raises(UserError, match="fitt"):
        run(["fitt", "--debug"])


def test_usage_and_version(capsys):
    main([])
    assert "usage: lightning_gen" in capsys.readouterr().out
    main(["--version"])
    assert re.fullmatch(r"lightning_gen \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("command", [("fit", "--config", RECIPE), ("sample", "--ckpt_path", "a.ckpt")])
def test_a_word_without_an_option(fails, command):
    sentence = fails(*command, "--allow", "my_layers", "my_bounds")
    has(sentence, "'my_bounds' is a word without an option before it", "commas")
    assert "--my_bounds" not in sentence


@pytest.mark.parametrize("command", [("sample", "--ckpt_path", "--num", "4"), ("evaluate", "--ckpt_path", "--seed=4")])
def test_an_option_without_its_value(fails, command):
    sentence = fails(*command)
    has(sentence, "--ckpt_path has no value")
    assert "configuration" not in sentence


def test_suggestions_look_past_capitals_and_never_repeat_what_was_given():
    assert nearest("betaelbo", ["BetaELBO", "ELBO"]) == " (did you mean 'BetaELBO'?)"
    assert nearest("FID", ["FID"]) == ""
    assert nearest("FID", ["FID", "KID"]) == " (did you mean 'KID'?)"
    assert nearest("xyzzy", ["FID"]) == ""


# -------------------------------------------------------------------- configurations


def test_a_missing_file(fails):
    has(fails("fit", "--config", "gone.yaml"), "gone.yaml")


def test_no_configuration(fails):
    has(fails("fit"), "--config", "model")


def test_a_file_that_is_no_yaml(fails, tmp_path):
    (tmp_path / "a.yaml").write_text("model: [1, 2\ndata: {")
    has(fails("fit", "--config", "a.yaml"), "a.yaml")


def test_an_empty_file(fails, tmp_path):
    (tmp_path / "a.yaml").write_text("")
    has(fails("fit", "--config", "a.yaml"), "model")


def test_a_recipe_without_data(fails, tmp_path):
    has(fails("fit", "--config", edited(tmp_path, data=None)), "data")


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("model__class_path", "GANN", "GAN"),
        ("model__init_args__loss", "NonSaturatin", "NonSaturating"),
        ("model__init_args__generator__class_path", "DCGANGenrator", "DCGANGenerator"),
        ("data__class_path", "Digit", "Digits"),
    ],
)
def test_an_unknown_class(fails, tmp_path, key, value, right):
    place = next(part for part in ("loss", "generator", "data", "model") if part in key)
    has(fails("fit", "--config", edited(tmp_path, **{key: value})), place, repr(value), repr(right))


@pytest.mark.parametrize(
    ("index", "value", "right"),
    [(0, "EMAA", "EMA"), (1, "SampleGird", "SampleGrid"), (3, "ModelCheckpoints", "ModelCheckpoint")],
)
def test_an_unknown_callback(fails, tmp_path, index, value, right):
    callbacks = yaml.safe_load(Path(RECIPE).read_text())["trainer"]["callbacks"]
    callbacks[index]["class_path"] = value
    has(
        fails("fit", "--config", edited(tmp_path, trainer__callbacks=callbacks)),
        "trainer.callbacks",
        value,
        repr(right),
    )


def test_a_class_of_a_module_that_is_not_there(fails, tmp_path):
    path = edited(tmp_path, model__init_args__generator__class_path="nowhere.Generator")
    has(fails("fit", "--config", path), "nowhere.Generator", "generator")


def test_a_class_of_the_wrong_kind(fails, tmp_path):
    path = edited(tmp_path, model__init_args__generator__class_path="DCGANDiscriminator")
    has(fails("fit", "--config", path), "generator", "DCGANDiscriminator")


@pytest.mark.parametrize("form", [str, lambda name: {"class_path": name}], ids=["word", "class_path"])
@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("bound", "BetaElbo", "BetaELBO"),  # capitals
        ("prior", "StandardNormall", "StandardNormal"),  # torch's `Normal` does not fit
        ("posterior", "DiagonalNorml", "DiagonalNormal"),
    ],
)
def test_only_classes_that_fit_are_suggested(fails, tmp_path, key, value, right, form):
    path = edited(tmp_path, VAE, **{f"model__init_args__{key}": form(value)})
    has(fails("fit", "--config", path), f"model.init_args.{key} names {value!r}", f"did you mean {right!r}")


def test_a_required_argument_of_a_factory(fails, tmp_path):
    path = edited(tmp_path, VAE, model__init_args__prior={"class_path": "VampPrior"})
    has(fails("fit", "--config", path), "model.init_args.prior.init_args.sample_shape is required")


OWN_NETS = """
from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import Decoder, Encoder

class OwnEncoder(Encoder):
    def forward(self, x, y=None):
        return x

class OwnDecoder(Decoder):
    def __init__(self, latent_dim: int, num_parameters: int):
        {body}

    def forward(self, z, y=None):
        return z
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes a module of one's own and a recipe that names a class of it; returns the recipe."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(source, name, key="decoder", form=str):
        module = f"own_nets_{len(list(tmp_path.glob('own_nets_*.py')))}_{tmp_path.name}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(source)
        path = edited(tmp_path, VAE, **{f"model__init_args__{key}": form(f"{module}.{name}")})
        return module, path

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("own_nets_"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "super().__init__(latent_dim)",
            ("OwnDecoder", "TypeError", "missing 1 required positional argument: 'num_parameters'", "--debug"),
        ),
        ("raise RuntimeError('weights are gone')", ("OwnDecoder", "RuntimeError: weights are gone", "--debug")),
        ("raise UserError('OwnDecoder.width is 0: at least 1')", ("OwnDecoder.width is 0: at least 1",)),
    ],
    ids=["TypeError", "RuntimeError", "UserError"],
)
def test_an_own_class_that_cannot_be_built(fails, own, body, words):
    sentence = fails("fit", "--config", own(OWN_NETS.format(body=body), "OwnDecoder")[1])
    has(sentence, *words)
    assert "Union" not in sentence
    assert "Namespace" not in sentence


@pytest.mark.parametrize("form", [str, lambda name: {"class_path": name}], ids=["word", "class_path"])
@pytest.mark.parametrize("key", ["encoder", "decoder"])
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("from collections import nothing", "ImportError: cannot import name 'nothing'"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("import torch\ntorch.nothing", "AttributeError: module 'torch' has no attribute 'nothing'"),
        ("class Net(", "SyntaxError"),
        ("int('many')", "ValueError: invalid literal"),
    ],
    ids=["ImportError", "ModuleNotFoundError", "AttributeError", "SyntaxError", "ValueError"],
)
def test_an_own_module_that_cannot_be_imported(fails, own, source, reason, key, form):
    module, path = own(source, "OwnEncoder", key, form)
    has(fails("fit", "--config", path), f"'{module}.OwnEncoder'", f"importing {module} raises", reason)


@pytest.mark.parametrize("form", [str, lambda name: {"class_path": name}], ids=["word", "class_path"])
@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("encoder", "OwnEncodr", ("has no 'OwnEncodr' (did you mean 'OwnEncoder'?)",)),
        ("decoder", "owndecoder", ("has no 'owndecoder' (did you mean 'OwnDecoder'?)",)),
        ("encoder", "OwnDecoder", ("another kind", "it is no Encoder", "MLPEncoder")),
        ("decoder", "OwnEncoder", ("another kind", "it is no Decoder", "MLPDecoder")),
    ],
)
def test_a_class_that_an_own_module_lacks_or_that_does_not_fit(fails, own, key, name, words, form):
    module, path = own(OWN_NETS.format(body="pass"), name, key, form)
    has(fails("fit", "--config", path), f"model.init_args.{key} names '{module}.{name}'", *words)


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("model__init_args__generator__init_args__widht", "width"),
        ("model__init_args__num_critic_step", "num_critic_steps"),
        ("data__init_args__batchsize", "batch_size"),
        ("data__init_args__image_sise", "image_size"),
        ("model__init_args__generator_optimizer__init_args__beta", "betas"),
    ],
)
def test_an_unknown_key(fails, tmp_path, key, right):
    sentence = fails("fit", "--config", edited(tmp_path, **{key: 3}))
    has(sentence, key.replace("__", "."), repr(right))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model__init_args__generator__init_args__width", "wide"),
        ("model__init_args__num_critic_steps", "two"),
        ("model__init_args__generator_optimizer__init_args__lr", "fast"),
        ("data__init_args__batch_size", "many"),
        ("data__init_args__batch_size", 2.5),
        ("trainer__max_steps", "many"),
    ],
)
def test_a_value_of_the_wrong_type(fails, tmp_path, key, value):
    sentence = fails("fit", "--config", edited(tmp_path, **{key: value}))
    has(sentence, key.replace("__", "."), str(value))
    assert "int" in sentence or "float" in sentence


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data__init_args__batch_size", 0, ("batch_size is 0", "at least 1")),
        ("data__init_args__batch_size", 5000, ("batch_size is 5000", "at most")),
        ("data__init_args__val_fraction", 1.5, ("val_fraction is 1.5",)),
        ("model__init_args__num_critic_steps", 0, ("num_critic_steps is 0", "at least 1")),
        ("model__init_args__generator__init_args__image_size", 30, ("image_size 30", "28")),
        (
            "model__init_args__generator__init_args__channels",
            3,
            ("generator.init_args.channels", "data.init_args", "(3, 32, 32)"),
        ),
        (
            "model__init_args__generator__init_args__image_size",
            16,
            ("generator.init_args.image_size", "data.init_args.image_size", "(1, 16, 16)"),
        ),
        ("model__init_args__discriminator__init_args__channels", 3, ("discriminator.init_args", "channels")),
        (
            "model__init_args__generator__init_args__num_classes",
            10,
            ("generator.init_args.num_classes is 10", "discriminator"),
        ),
        ("trainer__accumulate_grad_batches", 2, ("model.init_args.accumulate_grad_batches",)),
        ("trainer__gradient_clip_val", 1.0, ("model.init_args.gradient_clip_val",)),
        ("trainer__precision", "16-true", ("trainer.precision is 16-true", "bf16-mixed")),
        ("trainer__precision", "fp8", ("trainer.precision", "fp8")),
    ],
)
def test_a_value_that_cannot_be(fails, tmp_path, key, value, words):
    has(fails("fit", "--config", edited(tmp_path, **{key: value})), *words)


@pytest.mark.parametrize(
    ("index", "arguments", "words"),
    [
        (0, {"modules": ["critic"]}, ("EMA.modules", "'critic'", "generator")),
        (0, {"decay": 1.0}, ("EMA.decay is 1.0",)),
        (2, {"extractor": "DigitsClassifier", "metrics": ["FID"], "num_samples": 1}, ("num_samples is 1", "2")),
        (2, {"extractor": "DigitsClassifier", "metrics": ["FIDD"]}, ("'FIDD'", "'FID'")),
        (2, {"extractor": "DigitClassifier", "metrics": ["FID"]}, ("'DigitClassifier'", "'DigitsClassifier'")),
        (2, {"extractor": "DigitsClassifier", "metrics": ["FID"], "split": "tran"}, ("split", "'tran'", "train")),
        (4, {"every_n_train_steps": 0}, ("LastCheckpoint.every_n_train_steps is 0",)),
    ],
    ids=["modules", "decay", "num_samples", "metric", "extractor", "split", "every_n_train_steps"],
)
def test_a_callback_that_cannot_be(fails, tmp_path, index, arguments, words):
    callbacks = yaml.safe_load(Path(RECIPE).read_text())["trainer"]["callbacks"]
    callbacks[index]["init_args"] = arguments
    has(fails("fit", "--config", edited(tmp_path, trainer__callbacks=callbacks)), *words)


def test_a_folder_that_cannot_be_written(fails, tmp_path):
    (tmp_path / "file").write_text("")  # a folder below a file cannot be made, not even by root
    folder = tmp_path / "file" / "runs"
    has(
        fails("fit", "--config", RECIPE, f"--trainer.default_root_dir={folder}"),
        "trainer.default_root_dir",
        str(folder),
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_accelerator_that_is_absent(fails):
    has(fails("fit", "--config", RECIPE, "--trainer.accelerator=gpu"), "trainer.accelerator", "cpu")


def test_an_accelerator_that_does_not_exist(fails):
    has(fails("fit", "--config", RECIPE, "--trainer.accelerator=abacus"), "trainer.accelerator", "abacus", "cpu")


def test_a_strategy_that_does_not_exist(fails):
    has(fails("fit", "--config", RECIPE, "--trainer.strategy=flat_reduc"), "trainer.strategy", "flat_reduc")


@pytest.mark.parametrize("devices", ["0", "many"])
def test_devices_that_cannot_be(fails, devices):
    has(
        fails("fit", "--config", RECIPE, "--trainer.accelerator=cpu", f"--trainer.devices={devices}"),
        "devices",
        devices,
    )


# -------------------------------------------------------------------- checkpoints


@pytest.fixture
def ckpt(make_gan, make_ring, make_trainer, tmp_path):
    """A checkpoint of points that carries its configuration."""
    model, ring = (
        make_gan(),
        {"class_path": "lightning_gen.data.Ring2D", "init_args": {"num_samples": 160, "num_val": 16}},
    )
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}}
    size = {"width": 16, "depth": 2}
    arguments = {
        "generator": {"class_path": "lightning_gen.networks.MLPGenerator", "init_args": size | {"latent_dim": 4}},
        "discriminator": {"class_path": "lightning_gen.networks.MLPDiscriminator", "init_args": size},
        "loss": {"class_path": "lightning_gen.losses.NonSaturating"},
        "generator_optimizer": adam,
        "discriminator_optimizer": adam,
    }
    model.config = {
        "seed_everything": 0,
        "model": {"class_path": "lightning_gen.families.GAN", "init_args": arguments},
        "data": ring,
        "trainer": {"callbacks": []},
    }
    make_trainer(LastCheckpoint(), max_steps=1).fit(model, make_ring())
    return tmp_path / "checkpoints" / "last.ckpt"


COMMANDS = [
    ("sample",),
    ("evaluate", "--extractor=Raw"),
    ("fit", "--config", RECIPE),
    ("fit",),
    ("validate", "--config", RECIPE),
    ("test",),
    ("predict",),
]
ids = [" ".join(words).replace(RECIPE, "recipe") for words in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_a_missing_checkpoint(fails, command):
    has(fails(*command, "--ckpt_path", "gone.ckpt"), "gone.ckpt")


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_a_checkpoint_cut_short(fails, command, tmp_path, ckpt):
    (tmp_path / "half.ckpt").write_bytes(ckpt.read_bytes()[:2000])
    has(fails(*command, "--ckpt_path", "half.ckpt"), "half.ckpt", "cut short")


@pytest.mark.parametrize("command", [("sample",), ("evaluate", "--extractor=Raw"), ("predict",)], ids=lambda c: c[0])
def test_a_checkpoint_that_names_other_code(fails, command, ckpt):
    checkpoint = torch.load(ckpt, weights_only=True)
    checkpoint["config"]["model"]["class_path"] = "elsewhere.Model"
    torch.save(checkpoint, ckpt)
    has(fails(*command, "--ckpt_path", ckpt), "elsewhere.Model", "--allow elsewhere")


@pytest.mark.parametrize("command", [("sample",), ("evaluate", "--extractor=Raw"), ("predict",)], ids=lambda c: c[0])
def test_a_checkpoint_whose_weights_have_another_shape(fails, command, ckpt):
    checkpoint = torch.load(ckpt, weights_only=True)
    checkpoint["config"]["model"]["init_args"]["generator"]["init_args"]["width"] = 24
    torch.save(checkpoint, ckpt)
    has(fails(*command, "--ckpt_path", ckpt), "generator.layers", "(16, 4)", "(24, 4)")


def test_resuming_with_another_model(fails, ckpt):
    has(fails("fit", "--config", RECIPE, "--ckpt_path", ckpt), "another architecture", "for instance")


def test_classes_of_an_unconditional_model(fails, ckpt):
    has(fails("sample", "--ckpt_path", ckpt, "--classes", "3"), "unconditional")


@pytest.mark.parametrize("flag", ["num", "batch_size"])
def test_a_count_below_one(fails, flag, ckpt):
    has(fails("sample", "--ckpt_path", ckpt, f"--{flag}", "0"), f"--{flag} is 0", "at least 1")


def test_an_evaluation_of_too_few_samples(fails, ckpt):
    has(fails("evaluate", "--ckpt_path", ckpt, "--extractor=Raw", "--num_samples=1"), "num_samples is 1")


@pytest.mark.parametrize("flag", ["batch_size", "num_samples"])
def test_an_evaluation_with_a_count_below_one(fails, flag, ckpt):
    has(fails("evaluate", "--ckpt_path", ckpt, "--extractor=Raw", "--num_samples=50", f"--{flag}=0"), f"{flag} is 0")


def test_an_evaluation_without_an_extractor(fails, ckpt):
    has(fails("evaluate", "--ckpt_path", ckpt), "--extractor")


def test_an_unknown_extractor_or_metric(fails, ckpt):
    has(fails("evaluate", "--ckpt_path", ckpt, "--extractor=InceptionV"), "InceptionV", "'InceptionV3'")
    has(fails("evaluate", "--ckpt_path", ckpt, "--extractor=Raw", "--metrics=[FIDD]"), "FIDD", "'FID'")


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("held_out", "[FID]", ("names 'FID', a class of another kind: it is no HeldOutMetric",)),
        ("held_out", "[EvidenceLowerBond]", ("'EvidenceLowerBound'",)),
        ("metrics", "[fidd]", ("did you mean 'FID'",)),
        ("metrics", "[EvidenceLowerBound]", ("it is no GenerativeMetric",)),
        ("extractor", "Rawr", ("did you mean 'Raw'",)),
    ],
)
def test_options_that_name_classes(fails, ckpt, option, value, words):
    others = [] if option == "extractor" else ["--extractor=Raw"]
    sentence = fails("evaluate", "--ckpt_path", ckpt, *others, f"--{option}={value}")
    has(sentence, f"--{option} names", *words)
    assert "object" not in sentence
    assert "did you mean 'EvidenceLowerBound'?" not in sentence or "Bond" in sentence


def test_a_sampler_that_does_not_exist(fails, ckpt):
    has(fails("sample", "--ckpt_path", ckpt, "--sampler=Langevn"), "--sampler names 'Langevn'", "'Langevin'")


def test_a_pattern_that_matches_nothing(fails):
    has(fails("evaluate", "--ckpt_path", "runs/**/*.ckpt"), "runs/**/*.ckpt", "matches no file")


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_an_output_that_cannot_be_written(fails, command, tmp_path, ckpt):
    (tmp_path / "file").write_text("")
    extra = ["--extractor=Raw"] if command == "evaluate" else []
    has(fails(command, "--ckpt_path", ckpt, "--output", tmp_path / "file" / "out", *extra), "--output", "file/out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [("sample",), ("evaluate", "--extractor=Raw")], ids=lambda c: c[0])
def test_an_accelerator_of_an_own_command_that_is_absent(fails, command, ckpt):
    has(fails(*command, "--ckpt_path", ckpt, "--accelerator=gpu"), "accelerator", "cpu")


@pytest.mark.parametrize("content", ["", "- a list\n", "model: [1\n"], ids=["empty", "list", "broken"])
def test_a_configuration_laid_over_that_is_none(fails, content, tmp_path, ckpt):
    (tmp_path / "over.yaml").write_text(content)
    has(fails("evaluate", "--ckpt_path", ckpt, "--extractor=Raw", "--config", "over.yaml"), "over.yaml")


def test_a_configuration_laid_over_that_is_missing(fails, ckpt):
    has(fails("evaluate", "--ckpt_path", ckpt, "--extractor=Raw", "--config", "gone.yaml"), "gone.yaml")


@pytest.fixture
def conditional(ckpt, make_gan, make_ring, make_trainer, tmp_path):
    """A checkpoint of points of eight classes."""
    config = torch.load(ckpt, weights_only=True)["config"]
    for network in ("generator", "discriminator"):
        config["model"]["init_args"][network]["init_args"]["num_classes"] = 8
    size = {"width": 16, "depth": 2, "num_classes": 8}
    model = make_gan(generator=MLPGenerator(latent_dim=4, **size), discriminator=MLPDiscriminator(**size))
    model.config = config
    make_trainer(LastCheckpoint(), max_steps=1).fit(model, make_ring())
    return ckpt


@pytest.mark.parametrize("classes", ["8", "-1", "[0,1,12]"])
def test_a_class_out_of_range(fails, classes, conditional):
    sentence = fails("sample", "--ckpt_path", conditional, f"--classes={classes}")
    has(sentence, classes.strip("[]").split(",")[-1], "0 to 7")
    assert len(sentence) < 200


def test_no_classes(fails, conditional):
    has(fails("sample", "--ckpt_path", conditional, "--classes=[]"), "--classes")


def test_sampling_and_evaluating_work_where_nothing_is_wrong(conditional, tmp_path, capsys):
    run(["sample", "--ckpt_path", str(conditional), "--num=9", "--classes=[0,3]", "--accelerator=cpu", "--output=out"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"points.npy", "grid.png"}
    run(["evaluate", "--ckpt_path", str(conditional), "--extractor=Raw", "--num_samples=50", "--accelerator=cpu"])
    assert "fid_raw" in capsys.readouterr().out
    assert {path.name for path in tmp_path.glob("evaluation.*")} == {
        "evaluation.json",
        "evaluation.csv",
        "evaluation.png",
    }


def test_evaluating_says_what_the_callback_says(conditional, make_ring, tmp_path):
    run(["evaluate", "--ckpt_path", str(conditional), "--extractor=Raw", "--num_samples=50", "--accelerator=cpu"])
    (row,) = json.loads((tmp_path / "evaluation.json").read_text())["results"]
    model, data, _ = load(conditional)
    measured = Evaluation(Raw(), [FID], num_samples=50).measure(model, data)
    assert row["fid_raw"] == pytest.approx(measured["fid_raw"], rel=1e-6)
