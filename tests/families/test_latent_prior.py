"""A prior over codes: its likelihood, its frozen first stage, and checkpoints that need nothing beside them."""

import json
import os
from functools import partial
from itertools import product
from math import log
from pathlib import Path

import pytest
import torch
import yaml
from stage2_fakes import TinyCodes, TinyTokens, TinyVectors, WrongTokens

from lightning_gen import checkpoints
from lightning_gen.abilities import BoundsLikelihood, HasCodes, HasLikelihood, HasVectorLatents
from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.checkpoints import load
from lightning_gen.commands import run
from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.families import LatentPrior
from lightning_gen.metrics import CodeCost, CodeUsage, ReconstructionError, measure_held_out
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.trust import allowing, only_trusted

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode at the start.*")  # which a first stage should be

ADAM = partial(torch.optim.Adam, lr=0.05)
DIGITS = partial(Digits, image_size=8, batch_size=32)


def make(num_classes=None, stage_classes=None, network=TinyTokens, **options):
    torch.manual_seed(0)
    stage = TinyCodes(ADAM, num_classes=stage_classes)
    tokens = partial(network, num_classes=num_classes)
    return LatentPrior(stage, tokens, ADAM, **{"sample_shape": [1, 8, 8]} | options)


def batch_of(num=6):
    torch.manual_seed(1)
    return {"x": torch.rand(num, 1, 8, 8) * 2 - 1, "y": torch.arange(num) % 10, "index": torch.arange(num)}


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# -------------------------------------------------------------------- the likelihood


@pytest.mark.parametrize("num_classes", [None, 10])
def test_the_loss_is_the_likelihood_of_the_codes_code_by_code(num_classes):
    model, batch = make(num_classes).double(), batch_of()
    batch["x"] = batch["x"].double()
    codes = model.first_stage.codes(batch["x"])
    y = batch["y"] if num_classes else None
    expected = 0.0
    for row in range(6):
        logits = model.network(codes[row : row + 1], None if y is None else y[row : row + 1])[0]
        for place in range(4):
            expected -= (logits[place, codes[row, place]].exp() / logits[place].exp().sum()).log().item() / 6
    loss, terms = model.loss(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert terms["bits_per_code"].item() == pytest.approx(expected / 4 / log(2), rel=1e-12)
    held = model.held_out(batch)
    assert held["val_prior_nats"].mean().item() == pytest.approx(expected, rel=1e-12)
    assert held["val_prior_bits_per_dim"].mean().item() == pytest.approx(expected / 64 / log(2), rel=1e-12)


def test_samples_are_decoded_codes_that_occur_as_often_as_their_probability():
    model = make(temperature=0.5)
    seeds = sample_seeds(0, torch.arange(4000))
    drawn = model.network.draw(Noise(seeds), None, 0.5)
    torch.testing.assert_close(model.sample(4000, seeds=seeds), model.first_stage.decode_codes(drawn))
    sequences = torch.tensor(list(product(range(3), repeat=4)))
    with torch.no_grad():
        each = (model.network(sequences) / 0.5).log_softmax(2).gather(2, sequences[..., None]).squeeze(2)
    p = each.sum(1).exp()
    weights = torch.tensor([27, 9, 3, 1])
    counts = torch.bincount(drawn @ weights, minlength=81)
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert ((counts - 4000 * p).abs() < 4.5 * (4000 * p * (1 - p)).sqrt() + 1).all()


# -------------------------------------------------------------------- the first stage rests


@pytest.mark.parametrize("stage_classes", [None, 10])
def test_only_the_network_learns(stage_classes, make_trainer):
    model = make(10, stage_classes)
    before, network = state(model.first_stage), state(model.network)
    make_trainer(max_steps=3, limit_val_batches=1).fit(model, datamodule=DIGITS())
    after = model.first_stage.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(torch.equal(model.network.state_dict()[name], tensor) for name, tensor in network.items())
    model.train()
    assert model.network.training
    assert not any(module.training for module in model.first_stage.modules())
    assert not any(p.requires_grad for p in model.first_stage.parameters())
    optimizer = model.configure_optimizers()["optimizer"]
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in model.network.parameters()}


def test_the_trained_prior_beats_the_uniform_one_on_held_out_digits(make_trainer):
    model = make(10)
    trainer = make_trainer(max_steps=100, limit_val_batches=1.0)
    trainer.fit(model, datamodule=DIGITS())
    nats = trainer.validate(model, datamodule=DIGITS(), verbose=False)[0]["val_prior_nats"]
    assert nats < 0.7 * 4 * log(3)


# -------------------------------------------------------------------- the command line


def recipe(model, **trainer):
    data = {"class_path": "Digits", "init_args": {"image_size": 8, "batch_size": 32}}
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "max_steps": 2,
        "limit_val_batches": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "LastCheckpoint"}],
    }
    return {"model": model, "data": data, "trainer": defaults | trainer}


def fit(name, model, *words, **trainer):
    with open(f"{name}.yaml", "w") as file:
        yaml.safe_dump(recipe(model, default_root_dir=name, **trainer), file)
    run(["fit", "--config", f"{name}.yaml", *words])
    return f"{name}/checkpoints/last.ckpt"


ADAM_CONFIG = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.05}}
STAGE = {"class_path": "stage2_fakes.TinyCodes", "init_args": {"optimizer": ADAM_CONFIG, "num_codes": 5}}
EMA = [{"class_path": "EMA", "init_args": {"modules": ["norm"]}}, {"class_path": "LastCheckpoint"}]


def prior(path, **init_args):
    network = {"class_path": "stage2_fakes.TinyTokens", "init_args": {"num_classes": 10}}
    given = {"first_stage": str(path), "network": network, "optimizer": ADAM_CONFIG}
    return {"class_path": "LatentPrior", "init_args": given | init_args}


@pytest.mark.filterwarnings("ignore")
def test_a_priors_checkpoint_alone_is_enough(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = tmp_path / fit("first", STAGE, callbacks=EMA)
    stage, _, weights = load(first, allow="stage2_fakes")
    assert weights == "ema"
    second = tmp_path / fit("second", prior(first), "--allow", "stage2_fakes")
    first.unlink()
    model, data, _ = load(second, allow="stage2_fakes")
    assert data.sample_shape == (1, 8, 8)
    assert model.first_stage.num_codes == model.network.num_tokens == 5
    own = model.first_stage.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in stage.state_dict().items())
    given = model.config["model"]["init_args"]
    assert given["first_stage"]["class_path"] == "stage2_fakes.TinyCodes"
    assert given["sample_shape"] == [1, 8, 8]
    # on another machine: sampling, and training on
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    words = ["--ckpt_path", str(second), "--allow", "stage2_fakes"]
    run(["sample", *words, "--num", "4", "--output", "drawn", "--accelerator", "cpu"])
    assert len([path for path in (tmp_path / "elsewhere/drawn").rglob("*") if path.is_file()]) > 0
    run(["fit", *words, "--trainer.max_steps", "4"])
    resumed = torch.load(next((tmp_path / "elsewhere").rglob("last.ckpt")), weights_only=True)
    assert resumed["global_step"] == 4
    assert resumed["config"]["model"] == model.config["model"]
    with pytest.raises(SystemExit):
        run(["sample", "--ckpt_path", str(second), "--num", "4", "--output", "again"])
    assert "--allow stage2_fakes" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_packages_of_the_first_stage_must_be_allowed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = fit("first", STAGE)
    with pytest.raises(SystemExit):
        fit("second", prior(first))
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"model.init_args.first_stage is '{first}'" in told
    assert told.endswith("add --allow stage2_fakes")


# -------------------------------------------------------------------- bad input


@pytest.fixture
def save(tmp_path):
    """A function that writes a checkpoint of a model and its configuration."""

    def write(name, model, config, data=None):
        data = data or {"class_path": "lightning_gen.data.Digits", "init_args": {"image_size": 8}}
        path = tmp_path / name
        torch.save({"state_dict": model.state_dict(), "config": {"model": config, "data": data}}, path)
        return str(path)

    return write


def from_path(path, **options):
    with allowing("stage2_fakes"):
        return LatentPrior(path, TinyTokens, ADAM, **options)


def test_a_path_and_a_model_make_the_same(save):
    stage = TinyCodes(ADAM, 5)
    torch.nn.init.normal_(stage.levels)
    model = from_path(save("a.ckpt", stage, STAGE))
    assert torch.equal(model.first_stage.levels, stage.levels)
    assert model.network.shapes == ((2, 2),)
    with pytest.raises(UserError, match=r"model.init_args.sample_shape is \[1, 16, 8\].*first_stage is"):
        from_path(save("b.ckpt", stage, STAGE), sample_shape=[1, 16, 8])


def test_a_missing_first_stage_is_named():
    with pytest.raises(UserError, match=r"model.init_args.first_stage is 'absent.ckpt'.*no such file"):
        LatentPrior("absent.ckpt", TinyTokens, ADAM)


def test_a_folder_of_runs_stands_for_the_newest_ones_last_checkpoint(save, tmp_path):
    stage = TinyCodes(ADAM, 5)
    made = Path(save("a.ckpt", stage, STAGE))
    folder = tmp_path / "runs" / "first"
    with pytest.raises(UserError, match="no such file or folder"):
        from_path(str(folder))
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match="no run in that folder"):
        from_path(str(folder))
    for k, version in enumerate(("version_1", "version_0")):  # the newest by time, not by name
        target = folder / version / "checkpoints" / "last.ckpt"
        target.parent.mkdir(parents=True)
        target.write_bytes(made.read_bytes() if version == "version_0" else b"")
        os.utime(target, (k, k))
    assert torch.equal(from_path(str(folder)).first_stage.levels, stage.levels)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    path = tmp_path / "x.ckpt"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model.init_args.first_stage is .*x.ckpt.*cannot be read"):
        LatentPrior(str(path), TinyTokens, ADAM)


def test_a_first_stage_without_codes_is_refused(save):
    config = {"class_path": "stage2_fakes.TinyVectors", "init_args": {"optimizer": ADAM_CONFIG}}
    path = save("vectors.ckpt", TinyVectors(ADAM), config)
    with pytest.raises(UserError, match=r"model.init_args.first_stage is .*discrete codes, which TinyVectors cannot"):
        from_path(path)


def test_a_second_stage_is_no_first_stage(save):
    nested = prior("unused", first_stage=STAGE, sample_shape=[1, 8, 8])
    nested["class_path"] = "lightning_gen.families.LatentPrior"
    stage = LatentPrior(TinyCodes(ADAM, 5), partial(TinyTokens, num_classes=10), ADAM, sample_shape=[1, 8, 8])
    path = save("second.ckpt", stage, json.loads(json.dumps(nested)))
    with pytest.raises(UserError, match=r"first_stage is .*needs a first stage, which LatentPrior is not"):
        from_path(path)


def test_what_its_first_stage_can_do_it_can_too():
    model, batch = make(10, stage_classes=10), batch_of()
    x, y, stage = batch["x"], batch["y"], model.first_stage
    assert isinstance(model, HasCodes)
    assert not isinstance(model, HasVectorLatents | BoundsLikelihood | HasLikelihood)
    assert torch.equal(model.codes(x, y), stage.codes(x, y))
    assert torch.equal(model.decode_codes(model.codes(x, y), y), stage.reconstruct(x, y))
    assert torch.equal(model.decode(model.encode(x, y), y), stage.reconstruct(x, y))
    assert torch.equal(model.reconstruct(x, y), stage.reconstruct(x, y))
    # one that is unconditional is asked without classes
    assert torch.equal(make(10).reconstruct(x, y), make(10).first_stage.reconstruct(x))


def test_metrics_of_codes_and_reconstructions_are_those_of_the_first_stage():
    model, data = make(10), DIGITS()
    options = {"split": "val", "num_rows": 50, "batch_size": 7, "seed": 0}
    shared = [CodeUsage(), ReconstructionError()]
    values = measure_held_out(model, data, [*shared, CodeCost()], **options)
    assert measure_held_out(model.first_stage, data, shared, **options).items() <= values.items()
    batch = data.split("val")[torch.arange(50)]
    nats = model.held_out({"x": data.modality.to_model(batch["x"]), "y": batch["y"]})["val_prior_nats"].mean().item()
    assert values["code_cost_nats"] == pytest.approx(nats, rel=1e-6)
    assert values["code_cost_bits_per_dim"] == pytest.approx(nats / 64 / log(2), rel=1e-6)


def test_codes_have_no_price_without_their_condition():
    with pytest.raises(UserError, match="code_nats needs y, as the model is conditional"):
        make(10).code_nats(batch_of()["x"])


@pytest.mark.parametrize("there", [True, False])
def test_a_checkpoint_opens_no_other(there, save, monkeypatch):
    first = save("first.ckpt", TinyCodes(ADAM, 5), STAGE) if there else "/absent/first.ckpt"
    second = save("second.ckpt", make(10), prior(first) | {"class_path": "lightning_gen.families.LatentPrior"})
    opened = []
    read = checkpoints.read_checkpoint
    monkeypatch.setattr(checkpoints, "read_checkpoint", lambda path, **options: opened.append(path) or read(path))
    with pytest.raises(UserError, match=r"first_stage is '.*first.ckpt', but the model comes from a checkpoint"):
        load(second, allow="stage2_fakes")
    assert opened == [second]
    with only_trusted("stage2_fakes"), pytest.raises(UserError, match="which may name no other"):
        from_path(first)
    if there:  # what a recipe may do
        assert from_path(first).first_stage.num_codes == 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "words",
    [
        ["sample", "--num=2", "--output=drawn", "--accelerator=cpu"],
        ["evaluate", "--held_out=[CodeCost]", "--output=found", "--accelerator=cpu"],
        ["fit", "--trainer.max_steps=3"],
    ],
    ids=lambda words: words[0],
)
def test_no_command_opens_what_a_checkpoint_names(words, save, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first = save("first.ckpt", TinyCodes(ADAM, 5), STAGE)
    config = prior(first) | {"class_path": "lightning_gen.families.LatentPrior"}
    second = save("second.ckpt", from_path(first), config)
    with pytest.raises(SystemExit):
        run([*words, f"--ckpt_path={second}", "--allow=stage2_fakes"])
    assert "but the model comes from a checkpoint, which may name no other" in capsys.readouterr().err


def test_a_model_without_the_shape_of_its_samples_is_refused():
    with pytest.raises(UserError, match=r"model.init_args.sample_shape"):
        LatentPrior(TinyCodes(ADAM), TinyTokens, ADAM)


def test_other_data_are_refused_before_training(make_trainer):
    with pytest.raises(UserError, match=r"model.init_args.first_stage is for samples of shape \(1, 8, 8\).*16"):
        make_trainer(max_steps=1).fit(make(), datamodule=Digits(image_size=16))


def test_a_network_of_another_form_is_refused_before_training(make_trainer):
    with pytest.raises(UserError, match=r"model.init_args.network"):
        make_trainer(max_steps=1).fit(make(network=WrongTokens), datamodule=DIGITS())


@pytest.mark.parametrize("num_classes", [None, 4])
def test_a_first_stage_of_other_classes_is_refused(num_classes):
    with pytest.raises(UserError, match=r"first_stage is conditioned on 10 classes"):
        make(num_classes, stage_classes=10)


def test_a_temperature_that_is_none_is_refused():
    with pytest.raises(UserError, match=r"temperature is 0"):
        make(temperature=0.0)


def test_a_killed_run_goes_on_from_its_checkpoint(make_trainer, tmp_path):
    whole = make(10)
    make_trainer(max_steps=4).fit(whole, datamodule=DIGITS())
    make_trainer(LastCheckpoint(), max_steps=2).fit(make(10), datamodule=DIGITS())
    (path,) = tmp_path.rglob("last.ckpt")
    resumed = make(10)
    make_trainer(LastCheckpoint(), max_steps=4).fit(resumed, datamodule=DIGITS(), ckpt_path=path, weights_only=True)
    assert all(torch.equal(resumed.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())
