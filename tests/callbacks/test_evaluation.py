"""Metrics while training are the metrics of the checkpoint, and training does not notice."""

import csv
import json
import random

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_gen.callbacks import EMA, Evaluation, LastCheckpoint, SampleGrid
from lightning_gen.checkpoints import load_state, read_checkpoint
from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, Raw


def evaluation(**options):
    """FID of points as they are."""
    return Evaluation(Raw(), [FID], **{"num_samples": 50, "batch_size": 16} | options)


VALIDATE = {"limit_val_batches": 1, "val_check_interval": 3, "check_val_every_n_epoch": None}


class Logged(Callback):
    """Notes the logged values of every validation."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, model):
        self.values.append(trainer.callback_metrics["fid_raw"].item())


@pytest.fixture
def run(make_gan, make_ring, make_trainer, tmp_path):
    logged = Logged()
    saver = ModelCheckpoint(
        tmp_path / "saved", monitor="fid_raw", save_top_k=-1, filename="{step}", auto_insert_metric_name=True
    )
    make_trainer(EMA(decay=0.9), evaluation(), logged, saver, max_steps=6, **VALIDATE).fit(make_gan(), make_ring())
    return logged.values, tmp_path


def test_values_are_those_of_the_checkpoints_afterwards(run, make_gan, make_ring):
    values, folder = run
    assert len(values) == 2
    for step, value in zip((3, 6), values, strict=True):
        model = make_gan(init_seed=9)
        assert load_state(model, read_checkpoint(folder / "saved" / f"step={step}.ckpt"), "ema") == "ema"
        measured = evaluation(batch_size=7).measure(model, make_ring())
        assert measured["fid_raw"] == pytest.approx(value, rel=1e-6)
    assert values[0] != values[1]


def test_values_are_written_with_their_protocol(run):
    values, folder = run
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [3, 6]
    assert [float(row["fid_raw"]) for row in rows] == pytest.approx(values, rel=1e-6)
    protocol = json.loads((folder / "metrics.json").read_text())
    assert protocol["fid_raw"]["num_samples"] == 50
    assert protocol["fid_raw"]["seed"] == 0
    assert protocol["fid_raw"]["metric"] == "fid"
    assert protocol["fid_raw"]["extractor"]["extractor"] == "raw"


def test_a_resumed_run_takes_back_what_it_measures_again(make_gan, make_ring, make_trainer, tmp_path):
    make_trainer(evaluation(), LastCheckpoint(4), max_steps=4, **VALIDATE).fit(make_gan(), make_ring())
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("6,123.0\n")  # of the run that was killed later
    path = tmp_path / "checkpoints" / "last.ckpt"
    make_trainer(evaluation(), max_steps=9, **VALIDATE).fit(make_gan(), make_ring(), ckpt_path=path)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(set(steps))
    assert steps[0] == 3
    assert all(row["fid_raw"] != "123.0" for row in rows)


def test_training_is_undisturbed(make_gan, make_ring, make_trainer):
    found = []
    for callbacks in ([], [evaluation(), SampleGrid(4)]):
        gan = make_gan()
        options = VALIDATE if callbacks else {}
        make_trainer(*callbacks, max_steps=7, **options).fit(gan, make_ring())
        found.append(gan.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


class Drawing(Raw):
    """An extractor that draws random numbers, as augmenting ones do."""

    def extract(self, x):
        torch.rand(1)
        np.random.rand(1)  # noqa: NPY002 (the global state is what must be kept)
        random.random()
        return super().extract(x)


def test_measuring_leaves_the_generators_alone(make_gan, make_ring):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002

    measuring, model, data = Evaluation(Drawing(), [FID], num_samples=50), make_gan(), make_ring()
    measuring.prepare(data, model.device)
    before = states()
    measuring.measure(model, data)
    assert states() == before


def test_no_extractor_in_checkpoints(run):
    checkpoint = read_checkpoint(run[1] / "saved" / "step=3.ckpt")
    assert not any("extractor" in name or "fid" in name for name in checkpoint["state_dict"])
    states = [state for key, state in checkpoint["callbacks"].items() if "Evaluation" in key]
    assert not any(isinstance(value, torch.Tensor | dict) for state in states for value in state.values())


@pytest.mark.parametrize("every", [1, 2])
def test_every_n_validations(every, make_gan, make_ring, make_trainer, tmp_path):
    make_trainer(evaluation(every_n_validations=every), max_steps=9, **VALIDATE).fit(make_gan(), make_ring())
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 6, 9][::every]


def test_a_resumed_run_keeps_the_rhythm(make_gan, make_ring, make_trainer, tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    every_other = {"every_n_validations": 2}
    make_trainer(evaluation(**every_other), LastCheckpoint(4), max_steps=4, **VALIDATE).fit(make_gan(), make_ring())
    trainer = make_trainer(evaluation(**every_other), SampleGrid(**every_other), max_steps=9, **VALIDATE)
    trainer.fit(make_gan(), make_ring(), ckpt_path=path)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 9]


def test_monitoring_works_where_not_every_validation_measures(make_gan, make_ring, make_trainer, tmp_path):
    saver = ModelCheckpoint(tmp_path / "saved", monitor="fid_raw", save_top_k=-1, filename="{step}")
    trainer = make_trainer(evaluation(every_n_validations=2), saver, max_steps=9, **VALIDATE)
    trainer.fit(make_gan(), make_ring())
    assert {path.stem for path in (tmp_path / "saved").iterdir()} >= {"step=3", "step=9"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_samples": 1}, "num_samples is 1"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"split": "tset"}, "'tset'.*test"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"every_n_validations": 0}, "every_n_validations is 0"),
        ({"num_reference": 0}, "num_reference is 0"),
    ],
    ids=str,
)
def test_bad_options_are_refused_before_training(options, words, make_gan, make_ring, make_trainer):
    class Never(Callback):
        def on_train_start(self, *_):
            raise AssertionError("training started")

    with pytest.raises(UserError, match=words):
        make_trainer(evaluation(**options), Never(), max_steps=3, **VALIDATE).fit(make_gan(), make_ring())


def test_an_extractor_of_other_data_is_refused_before_training(make_gan, make_ring, make_trainer):
    class Never(Callback):
        def on_train_start(self, *_):
            raise AssertionError("training started")

    wrong = Evaluation(Raw(num_features=3), [FID], num_samples=50)
    with pytest.raises(UserError, match="num_features"):
        make_trainer(wrong, Never(), max_steps=3, **VALIDATE).fit(make_gan(), make_ring())


def test_testing_measures_too(make_gan, make_ring, make_trainer, tmp_path):
    gan, data = make_gan(), make_ring()
    (logged,) = make_trainer(evaluation(), limit_test_batches=1).test(gan, data, verbose=False)
    assert logged["fid_raw"] == pytest.approx(evaluation().measure(gan, data)["fid_raw"], rel=1e-6)
    assert not (tmp_path / "metrics.csv").exists()
