"""Metrics while training are the metrics of the checkpoint, and training does not notice."""

import csv
import json
import random
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_gen.callbacks import EMA, Evaluation, LastCheckpoint, SampleGrid
from lightning_gen.checkpoints import load_state, read_checkpoint
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.metrics import (
    FID,
    EvidenceLowerBound,
    MutualInformationGap,
    NegativeLogLikelihood,
    PathLength,
    Raw,
    ReconstructionError,
    measure_batches,
)
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder


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


# ---------------------------------------------------------------- held-out rows


@pytest.fixture
def make_vae():
    """A function that builds a small VAE of points, always with the same initial weights."""

    def build(seed=0):
        torch.manual_seed(seed)
        decoder = partial(MLPDecoder, width=8, depth=1)
        return VAE(MLPEncoder(2, 8, 1), decoder, 2, Gaussian(0.5), partial(torch.optim.Adam, lr=0.01))

    return build


def of_rows(**options):
    """Numbers about held-out rows alone."""
    metrics = [NegativeLogLikelihood(4), EvidenceLowerBound(), ReconstructionError()]
    return Evaluation(**{"held_out": metrics, "batch_size": 5} | options)


NAMES = [
    *("nll_is4_nats", "elbo_nats", "elbo_reconstruction_nats", "elbo_kl_nats"),
    "reconstruction_mse",
]


def test_held_out_values_are_those_of_the_checkpoints_afterwards(make_vae, make_ring, make_trainer, tmp_path):
    saver = ModelCheckpoint(tmp_path / "saved", monitor="nll_is4_nats", save_top_k=-1, filename="{step}")
    make_trainer(of_rows(), saver, max_steps=6, **VALIDATE).fit(make_vae(), make_ring())
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", *NAMES]
    for row in rows:
        model = make_vae(seed=9)
        load_state(model, read_checkpoint(tmp_path / "saved" / f"step={row['step']}.ckpt"), "raw")
        measured = of_rows(batch_size=3).measure(model, make_ring())
        assert {name: float(row[name]) for name in NAMES} == pytest.approx(measured, rel=1e-5)
    assert rows[0]["elbo_nats"] != rows[1]["elbo_nats"]
    protocol = json.loads((tmp_path / "metrics.json").read_text())
    assert list(protocol) == NAMES
    assert protocol["elbo_nats"]["rows"] == {
        "split": "test",
        "limit": None,
        "fingerprint": make_ring().fingerprint("test"),
        "num": 16,
    }
    assert protocol["elbo_nats"]["higher_is_better"] is True
    assert protocol["nll_is4_nats"]["likelihood"] == "Gaussian"


def test_measuring_rows_leaves_training_alone(make_vae, make_ring, make_trainer):
    found = []
    for callbacks in ([], [of_rows(extractor=Raw(), metrics=[FID], reconstructions=[FID], num_samples=50)]):
        vae = make_vae()
        make_trainer(*callbacks, max_steps=7, **(VALIDATE if callbacks else {})).fit(vae, make_ring())
        found.append(vae.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_reconstructions_are_measured_against_their_own_rows(make_vae, make_ring):
    model, data = make_vae(), make_ring()
    evaluation = Evaluation(Raw(), reconstructions=[FID], held_out_split="val", num_held_out=12, batch_size=5)
    values = evaluation.measure(model, data)
    x = data.split("val")[torch.arange(12)]["x"]
    made = model.reconstruct(x)
    fid = FID(Raw())
    fid.fit_reference(data, split="val", num=12)
    batch = {"x": made, "index": torch.arange(12)}
    expected = measure_batches([batch], [fid], num_samples=12, device="cpu")
    assert values == pytest.approx({f"reconstruction_{name}": value for name, value in expected.items()}, rel=1e-5)
    assert values["reconstruction_fid_raw"] > 0.01
    protocol = evaluation.protocol(model)["reconstruction_fid_raw"]
    assert protocol["samples"] == "reconstructions of split 'val'"
    assert (protocol["num_samples"], protocol["seed"], protocol["higher_is_better"]) == (12, None, False)
    assert (protocol["reference"]["split"], protocol["reference"]["limit"]) == ("val", 12)


def test_samples_and_rows_are_measured_beside_each_other(make_vae, make_ring):
    model, data = make_vae(), make_ring()
    both = of_rows(extractor=Raw(), metrics=[FID], reconstructions=[FID], num_samples=50)
    values = both.measure(model, data)
    alone = evaluation().measure(model, data) | of_rows().measure(model, data)
    assert values.keys() - alone.keys() == {"reconstruction_fid_raw"}
    assert {name: values[name] for name in alone} == pytest.approx(alone, rel=1e-6)
    assert list(both.protocol(model)) == ["fid_raw", "reconstruction_fid_raw", *NAMES]


def test_a_perfect_reconstruction_has_distance_zero(make_ring):
    class Copy(VAE):
        def reconstruct(self, x, y=None):
            return x

    decoder = partial(MLPDecoder, width=8, depth=1)
    model = Copy(MLPEncoder(2, 8, 1), decoder, 2, Gaussian(), partial(torch.optim.Adam, lr=0.01))
    values = Evaluation(Raw(), reconstructions=[FID], held_out=[ReconstructionError()]).measure(model, make_ring())
    assert values == pytest.approx({"reconstruction_fid_raw": 0, "reconstruction_mse": 0}, abs=1e-9)


def test_testing_measures_rows_too(make_vae, make_ring, make_trainer):
    vae, data = make_vae(), make_ring()
    (logged,) = make_trainer(of_rows(), limit_test_batches=1).test(vae, data, verbose=False)
    assert {name: logged[name] for name in NAMES} == pytest.approx(of_rows().measure(vae, data), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"held_out_split": "tset"}, "held_out_split is 'tset'.*use any of train, val, test"),
        ({"num_held_out": 0}, "num_held_out is 0"),
        ({"held_out": []}, "nothing to measure"),
        ({"metrics": [FID]}, "metrics need Evaluation.extractor"),
        ({"reconstructions": [FID]}, "reconstructions need Evaluation.extractor"),
        ({"held_out": [NegativeLogLikelihood()]}, "num_importance_samples is not set"),
        ({"held_out": [MutualInformationGap()]}, "data whose factors are known"),
        ({"extractor": Raw(), "reconstructions": [PathLength]}, "has PathLength"),
    ],
    ids=str,
)
def test_bad_options_for_rows_are_refused_before_training(options, words, make_vae, make_ring, make_trainer):
    class Never(Callback):
        def on_train_start(self, *_):
            raise AssertionError("training started")

    with pytest.raises(UserError, match=words):
        make_trainer(of_rows(**options), Never(), max_steps=3, **VALIDATE).fit(make_vae(), make_ring())


def test_models_without_the_ability_are_refused_before_training(make_gan, make_ring, make_trainer):
    for options, words in (
        ({}, "estimate log p.*which GAN cannot"),
        ({"held_out": [], "extractor": Raw(), "reconstructions": [FID]}, "reconstruct samples, which GAN cannot"),
    ):
        with pytest.raises(UserError, match=words):
            make_trainer(of_rows(**options), max_steps=3, **VALIDATE).fit(make_gan(), make_ring())


def test_two_evaluations_do_not_measure_the_same(make_vae, make_ring, make_trainer):
    with pytest.raises(UserError, match=r"two Evaluations measure elbo_kl_nats, .*: leave it to one"):
        make_trainer(of_rows(), of_rows(held_out_split="val", seed=1), max_steps=3, **VALIDATE).fit(
            make_vae(), make_ring()
        )
