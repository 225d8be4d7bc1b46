"""The command line from end to end: fit, kill, resume, sample, evaluate, validate, test, predict."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.checkpoints import read_checkpoint

CONFIG = Path(__file__).parents[1] / "configs" / "gan" / "dcgan_digits.yaml"
STEPS, KILLED_AT = 40, 27  # epochs have 22 steps, checkpoints come every 5: neither divides the other
TINY = [
    "--model.init_args.generator.init_args.width=4",
    "--model.init_args.discriminator.init_args.width=4",
    f"--trainer.max_steps={STEPS}",
    "--trainer.val_check_interval=20",
    "--trainer.log_every_n_steps=1",
]
SMALL = """
trainer:
  callbacks:
    - class_path: EMA
      init_args: {modules: [generator], decay: 0.9}
    - class_path: SampleGrid
      init_args: {num: 9}
    - class_path: Evaluation
      init_args: {extractor: DigitsClassifier, metrics: [FID, InceptionScore], num_samples: 100}
    - class_path: ModelCheckpoint
      init_args: {monitor: fid_digits, save_top_k: -1, filename: "step={step:06d}", auto_insert_metric_name: false}
    - class_path: LastCheckpoint
      init_args: {every_n_train_steps: 5}
"""
KILLER = f"""
import os, signal
from lightning.pytorch import Callback

class Killer(Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == {KILLED_AT}:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def command(folder, *words, expect=0):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HOME": str(folder / "home")}
    environment.pop("LIGHTNING_GEN_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-m", "lightning_gen", *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == expect, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def fit(folder, root, *words, expect=0):
    return command(
        folder,
        "fit",
        "--config",
        CONFIG,
        "--config",
        "small.yaml",
        *TINY,
        "--trainer.default_root_dir",
        root,
        *words,
        expect=expect,
    )


def losses(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curve = {}
    for file in sorted(run.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file)).Reload()
        curve |= {(tag, e.step): e.value for tag in ("d_loss", "g_loss") for e in events.Scalars(tag)}
    return curve


def read(path):
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture)).int()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifecycle")
    (folder / "small.yaml").write_text(SMALL)
    (folder / "killer.py").write_text(KILLER)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    output = fit(folder, "whole")
    return folder / "whole" / "dcgan_digits" / "version_0", output


@pytest.fixture(scope="module")
def resumed(folder):
    fit(folder, "killed", "--trainer.callbacks+=killer.Killer", expect=-signal.SIGKILL)
    run = folder / "killed" / "dcgan_digits" / "version_0"
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"] == 25
    fit(folder, "killed", "--ckpt_path", "last")
    return run


def test_fit_writes_everything_below_its_root_and_says_how_to_go_on(folder, whole):
    run, output = whole
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "metrics.json", "grids/step=000040.png", "checkpoints/last.ckpt"} <= names
    assert {"checkpoints/step=000020.ckpt", "checkpoints/step=000040.ckpt"} <= names
    assert {path.name for path in folder.iterdir()} - {"home"} == {"whole", "small.yaml", "killer.py"}
    assert not list((folder / "home").rglob("*lightning*"))  # matplotlib keeps its fonts there, nothing else
    sample, evaluate = re.findall(r"  lightning_gen (sample|evaluate) --ckpt_path '?([^' ]+)'?", output)
    assert (folder / sample[1]).is_file()
    assert evaluate[1].endswith("*.ckpt")


def test_a_killed_run_resumes_to_the_same_curve_and_weights(whole, resumed):
    run, _ = whole
    curve, other = losses(run), losses(resumed)
    assert len(curve) == 2 * STEPS
    assert curve == other
    a, b = (read_checkpoint(r / "checkpoints" / "last.ckpt") for r in (run, resumed))
    assert a["global_step"] == b["global_step"] == STEPS
    for name, tensor in a["state_dict"].items():
        assert torch.equal(tensor, b["state_dict"][name]), name
    for name, tensor in a["callbacks"]["EMA[generator]"]["averaged"].items():
        assert torch.equal(tensor, b["callbacks"]["EMA[generator]"]["averaged"][name]), name


def test_a_resumed_run_goes_on_in_its_folder(whole, resumed):
    run, _ = whole
    assert [path.name for path in resumed.parent.iterdir()] == ["version_0"]
    assert (resumed / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
    assert (resumed / "config.yaml").exists()
    assert (resumed / "config_resumed_1.yaml").exists()


def test_sample_is_the_same_for_any_batch_size_and_number_of_processes(folder, whole):
    run, _ = whole
    ckpt = run / "checkpoints" / "last.ckpt"
    command(folder, "sample", "--ckpt_path", ckpt, "--num", 10, "--output", run / "a")
    command(
        folder,
        "sample",
        "--ckpt_path",
        ckpt,
        "--num",
        10,
        "--output",
        run / "b",
        "--batch_size",
        3,
        "--devices",
        2,
        "--accelerator",
        "cpu",
    )
    command(folder, "sample", "--ckpt_path", ckpt, "--num", 10, "--output", run / "c", "--seed", 1, "--no_grid")
    pixels = [torch.stack([read(run / d / f"{k:06d}.png") for k in range(10)]) for d in "abc"]
    assert pixels[0].shape == (10, 32, 32)
    assert (pixels[0] - pixels[1]).abs().max() <= 1
    assert (pixels[0] - pixels[2]).abs().max() > 1
    assert (run / "a" / "grid.png").exists()
    assert not (run / "c" / "grid.png").exists()


def test_evaluate_gives_the_numbers_that_fit_logged(folder, whole):
    run, _ = whole
    output = command(folder, "evaluate", "--ckpt_path", f"{run}/checkpoints/step=*.ckpt")
    assert "fid_digits" in output
    result = json.loads((run / "evaluation.json").read_text())
    with (run / "metrics.csv").open() as file:
        logged = {int(row["step"]): float(row["fid_digits"]) for row in csv.DictReader(file)}
    assert [row["step"] for row in result["results"]] == [20, 40]
    for row in result["results"]:
        assert row["fid_digits"] == pytest.approx(logged[row["step"]], rel=1e-9)
        assert row["weights"] == "ema"
    assert result["protocol"]["fid_digits"]["num_samples"] == 100
    with Image.open(run / "evaluation.png") as picture:
        assert picture.width > 100
    command(
        folder,
        "evaluate",
        "--ckpt_path",
        run / "checkpoints/last.ckpt",
        "--weights",
        "raw",
        "--num_samples",
        50,
        "--output",
        run / "raw.json",
    )
    raw = json.loads((run / "raw.json").read_text())
    assert raw["results"][0]["weights"] == "raw"
    assert raw["protocol"]["fid_digits"]["num_samples"] == 50
    assert raw["results"][0]["fid_digits"] != pytest.approx(logged[40], rel=1e-3)


def test_validate_test_and_predict_need_only_the_checkpoint(folder, whole):
    run, _ = whole
    ckpt = run / "checkpoints" / "last.ckpt"
    with (run / "metrics.csv").open() as file:
        last = float(list(csv.DictReader(file))[-1]["fid_digits"])
    before = (run / "config.yaml").read_text()
    for name in ("validate", "test"):
        output = command(folder, name, "--ckpt_path", ckpt)
        value = float(re.search(r"fid_digits\W+([\d.]+)", output)[1])
        assert value == pytest.approx(last, rel=1e-4)
    command(folder, "predict", "--ckpt_path", ckpt, "--trainer.default_root_dir", "predicted")
    assert len(list((folder / "predicted").rglob("*.png"))) == 64
    assert (run / "config.yaml").read_text() == before


def test_the_command_line_wins_over_the_checkpoint(folder, whole):
    run, _ = whole
    output = command(
        folder,
        "fit",
        "--ckpt_path",
        run / "checkpoints/last.ckpt",
        "--trainer.max_steps",
        41,
        "--model.init_args.num_critic_steps",
        2,
        "--print_config",
    )
    assert re.search(r"num_critic_steps: 2", output)
    assert re.search(r"max_steps: 41", output)
