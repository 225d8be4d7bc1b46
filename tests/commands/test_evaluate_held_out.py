"""`evaluate` of held-out rows: numbers about checkpoints that no sample tells."""

import csv
import json

import pytest
import torch

from lightning_gen.checkpoints import instantiate, load
from lightning_gen.commands import run
from lightning_gen.commands.benches import evaluations_of
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.metrics import EvidenceLowerBound, NegativeLogLikelihood, measure_held_out
from lightning_gen.model import GenerativeModel

SHAPE = {"sample_dim": [1, 8, 8], "width": 8, "depth": 1}
DATA = {
    "class_path": "lightning_gen.data.Thresholded",
    "init_args": {"data": {"class_path": "lightning_gen.data.Digits", "init_args": {"image_size": 8}}},
}
NLL = {"class_path": "lightning_gen.metrics.NegativeLogLikelihood", "init_args": {"num_importance_samples": 3}}
EVALUATION = {
    "extractor": None,
    "metrics": None,
    "held_out": [NLL, {"class_path": "lightning_gen.metrics.EvidenceLowerBound"}],
    "num_held_out": 30,
    "held_out_split": None,
    "reconstructions": None,
}


def model_of(likelihood="Bernoulli", **network):
    return {
        "class_path": "lightning_gen.families.VAE",
        "init_args": {
            "encoder": {"class_path": "lightning_gen.networks.autoencoders.MLPEncoder", "init_args": SHAPE},
            "decoder": {"class_path": "lightning_gen.networks.autoencoders.MLPDecoder", "init_args": SHAPE | network},
            "latent_dim": 2,
            "likelihood": {"class_path": f"lightning_gen.losses.likelihoods.{likelihood}"},
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}},
        },
    }


def write(path, step, model=None, *evaluations, seed=0):
    """A checkpoint of an untrained VAE."""
    model = model or model_of()
    torch.manual_seed(seed)
    vae = instantiate(GenerativeModel, model)
    callbacks = [{"class_path": "lightning_gen.callbacks.Evaluation", "init_args": e} for e in evaluations]
    config = {"model": model, "data": DATA, "trainer": {"callbacks": callbacks}}
    torch.save({"state_dict": vae.state_dict(), "config": config, "global_step": step}, path)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(pattern, *words, output="found"):
    run(["evaluate", f"--ckpt_path={pattern}", f"--output={output}", "--accelerator=cpu", *words])
    with open(f"{output}.json") as file:
        return json.load(file)


def told(capsys, words):
    with pytest.raises(SystemExit):
        run(words)
    return " ".join(capsys.readouterr().err.split())


def test_a_recipe_that_measures_rows_alone(place, capsys):
    for step in (1, 2):
        write(place / f"{step}.ckpt", step, None, EVALUATION, seed=step)
    found = evaluate("*.ckpt", "--report=report")
    names = ["nll_is3_nats", "nll_is3_bits_per_dim", "elbo_nats", "elbo_reconstruction_nats", "elbo_kl_nats"]
    assert list(found["protocol"]) == [name for name in names if "bits" not in name]
    split = instantiate(DataModule, DATA).splits[-1]
    for row in found["results"]:
        model, data, _ = load(place / row["checkpoint"])
        metrics = [NegativeLogLikelihood(3), EvidenceLowerBound()]
        expected = measure_held_out(model, data, metrics, split=split, num_rows=30, batch_size=11, seed=0)
        assert {name: row[name] for name in names} == pytest.approx(expected, rel=1e-5)
    nll, elbo = ({row["step"]: row[name] for row in found["results"]} for name in ("nll_is3_nats", "elbo_nats"))
    assert found["best"]["nll_is3_nats"]["step"] == min(nll, key=nll.get)
    assert found["best"]["elbo_nats"]["step"] == max(elbo, key=elbo.get)
    assert "elbo_kl_nats" not in found["best"]
    with (place / "found.csv").open(newline="") as file:
        assert {*names} < next(csv.DictReader(file)).keys()
    assert (place / "found.png").read_bytes().startswith(b"\x89PNG")
    assert "nll_is3_nats" in (place / "report" / "index.html").read_text()
    shown = capsys.readouterr().out
    assert "best nll_is3_nats" in shown
    assert shown.splitlines()[0].split()[3:] == names


def test_the_command_line_names_what_is_measured(place):
    write(place / "a.ckpt", 1)
    words = ["--held_out=[ActiveUnits, {class_path: NegativeLogLikelihood, init_args: {num_importance_samples: 2}}]"]
    found = evaluate("a.ckpt", *words, "--held_out_split=train", "--num_held_out=250", "--seed=5", "--batch_size=100")
    assert list(found["protocol"]) == ["active_units", "nll_is2_nats"]
    how = found["protocol"]["nll_is2_nats"]
    assert (how["rows"]["split"], how["rows"]["num"], how["seed"], how["likelihood"]) == ("train", 250, 5, "Bernoulli")
    assert found["results"][0]["nll_is2_nats_se"] > 0


def test_reconstructions_and_samples_by_one_extractor(place):
    write(place / "a.ckpt", 1, None, EVALUATION)
    words = ["--extractor=DigitsClassifier", "--metrics=[FID]", "--reconstructions=[FID]", "--num_samples=64"]
    found = evaluate("a.ckpt", *words, "--no_memorisation", "--num_held_out=50")
    names = ["fid_digits", "reconstruction_fid_digits", "nll_is3_nats"]
    assert {*names} < found["protocol"].keys()
    assert all(found["results"][0][name] > 0 for name in names)
    assert found["protocol"]["reconstruction_fid_digits"]["num_samples"] == 50


def test_models_of_other_likelihoods_are_not_put_into_one_table(place, capsys):
    write(place / "a.ckpt", 1, None, EVALUATION)
    write(place / "b.ckpt", 2, model_of("ContinuousBernoulli"), EVALUATION)
    words = ["evaluate", "--ckpt_path=*.ckpt", "--output=found", "--accelerator=cpu"]
    assert 'likelihood "Bernoulli", not "ContinuousBernoulli"' in told(capsys, words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--held_out=[NegativeLogLikelihood]"], "num_importance_samples is not set, but VAE"),
        (["--held_out=[CodeUsage]"], "CodeUsage needs a model that can turn samples into codes, which VAE cannot"),
        (["--held_out=[EvidenceLowerBond]"], "'EvidenceLowerBond', which is not a class that fits there"),
        (["--held_out=[EvidenceLowerBound]", "--held_out_split=tset"], "held_out_split is 'tset'"),
        (["--held_out=[]"], "nothing is left to measure"),
        (["--reconstructions=[FID]"], "reconstructions need Evaluation.extractor"),
        (["--reconstructions=[FIDD]", "--extractor=DigitsClassifier"], "'FIDD'"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is(words, sentence, place, capsys):
    write(place / "a.ckpt", 1, None, EVALUATION)
    message = told(capsys, ["evaluate", "--ckpt_path=a.ckpt", "--output=found", "--accelerator=cpu", *words])
    assert sentence in message
    assert not (place / "found.json").exists()


def test_models_are_asked_what_they_can_before_they_have_weights(place, monkeypatch):
    write(place / "a.ckpt", 1, None, EVALUATION)
    seen, check = [], EvidenceLowerBound.check

    def recorded(self, model, data):
        seen.append(next(model.parameters()).device.type)
        check(self, model, data)

    monkeypatch.setattr(EvidenceLowerBound, "check", recorded)
    found = evaluate("a.ckpt")
    assert seen[0] == "meta"
    assert seen[-1] == "cpu"
    assert found["results"][0]["elbo_nats"] < 0


def test_images_of_any_program_have_no_rows(place, capsys):
    for word in ("--held_out=[ActiveUnits]", "--reconstructions=[FID]", "--num_held_out=3", "--held_out_split=val"):
        assert f"{word.split('=')[0]} is about rows of a split" in told(capsys, ["evaluate", "--samples=x", word])


# ---------------------------------------------------------------- what a command line changes

FID, KID = {"class_path": "FID"}, {"class_path": "KID"}
SAMPLED = {"extractor": "E", "metrics": [FID], "num_samples": 5}
ROWS = {"held_out": ["H"], "extractor": None}


def arguments(own, changes, memorisation=False):
    callbacks = [{"class_path": "x.Evaluation", "init_args": each} for each in own]
    return evaluations_of({"trainer": {"callbacks": callbacks}}, changes, memorisation)


@pytest.mark.parametrize(
    ("own", "changes", "expected"),
    [
        ([SAMPLED, ROWS], {}, [SAMPLED, {"held_out": ["H"]}]),
        ([ROWS], {"seed": 1}, [{"held_out": ["H"], "seed": 1}]),
        # samples are measured once, rows as the recipe says
        ([ROWS, SAMPLED, SAMPLED], {"metrics": [KID]}, [{"held_out": ["H"]}, SAMPLED | {"metrics": [KID]}]),
        ([SAMPLED, SAMPLED], {"extractor": "X"}, [SAMPLED | {"extractor": "X"}]),
        ([ROWS], {"extractor": "X"}, [{"extractor": "X", "metrics": [FID]}, {"held_out": ["H"]}]),
        ([], {"extractor": "X"}, [{"extractor": "X", "metrics": [FID]}]),
        # rows are measured once
        ([], {"held_out": ["N"]}, [{"held_out": ["N"]}]),
        ([SAMPLED, ROWS], {"held_out": ["N"]}, [SAMPLED | {"held_out": ["N"]}]),
        ([SAMPLED, ROWS], {"held_out": []}, [SAMPLED | {"held_out": []}]),
        ([ROWS, ROWS], {"held_out": ["N"], "num_held_out": 2}, [{"held_out": ["N"], "num_held_out": 2}]),
        (
            [ROWS, SAMPLED],
            {"reconstructions": [KID]},
            [{"held_out": ["H"], "reconstructions": []}, SAMPLED | {"reconstructions": [KID]}],
        ),
        (
            [ROWS],
            {"extractor": "X", "reconstructions": [FID]},
            [{"extractor": "X", "reconstructions": [FID]}, {"held_out": ["H"], "reconstructions": []}],
        ),
    ],
)
def test_changes_of_a_recipe(own, changes, expected):
    assert arguments(own, changes) == expected


def test_memorisation_is_looked_for_where_samples_are_drawn():
    (_, sampled) = arguments([ROWS, SAMPLED], {}, memorisation=True)
    assert sampled["metrics"] == [FID, {"class_path": "Memorisation"}]
    assert arguments([ROWS], {}, memorisation=True) == [{"held_out": ["H"]}]
    assert arguments([SAMPLED], {"reference": "x.npz"}, memorisation=True) == [SAMPLED | {"reference": "x.npz"}]


def test_a_recipe_without_evaluation_needs_to_be_told():
    with pytest.raises(UserError, match=r"no Evaluation callback: name an --extractor.*--held_out"):
        arguments([], {"seed": 1})
