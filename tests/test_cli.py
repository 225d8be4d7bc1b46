"""What the commands decide by themselves: strategy, folders, what can be compared."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from lightning_gen.callbacks import EMA, LastCheckpoint, StepProgressBar
from lightning_gen.checkpoints import instantiate
from lightning_gen.cli import Command
from lightning_gen.commands import run
from lightning_gen.model import GenerativeModel
from lightning_gen.strategies import FlatReduceStrategy

RECIPE = Path(__file__).parents[1] / "configs" / "gan" / "gan_ring8.yaml"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(monkeypatch):
    """A function that builds everything of a command and runs nothing."""
    monkeypatch.setattr(Command, "_run_subcommand", lambda *_: None)
    return lambda *words: Command([words[0], "--config", str(RECIPE), *map(str, words[1:])])


CPU = ("--trainer.accelerator", "cpu")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("devices", "flat"), [(1, False), (2, True), ("2", True), ("auto", False)])
def test_several_devices_get_the_strategy_for_adversarial_models(devices, flat, command):
    trainer = command("fit", *CPU, "--trainer.devices", devices).trainer
    assert isinstance(trainer.strategy, FlatReduceStrategy) is flat


@pytest.mark.filterwarnings("ignore")
def test_a_strategy_that_is_asked_for_is_kept(command):
    words = ("--trainer.devices", 2, "--trainer.strategy", "ddp_find_unused_parameters_true")
    assert not isinstance(command("fit", *CPU, *words).trainer.strategy, FlatReduceStrategy)


@pytest.mark.filterwarnings("ignore")
def test_averages_come_first_and_the_last_checkpoint_comes_last(command):
    callbacks = command("fit", *CPU).trainer.callbacks
    assert isinstance(callbacks[0], EMA)
    assert isinstance(callbacks[-1], LastCheckpoint)


@pytest.mark.filterwarnings("ignore")
def test_the_bar_can_be_switched_off(command):
    assert any(isinstance(c, StepProgressBar) for c in command("fit", *CPU).trainer.callbacks)
    trainer = command("fit", *CPU, "--trainer.enable_progress_bar", "false").trainer
    assert not any(isinstance(c, StepProgressBar) for c in trainer.callbacks)


@pytest.fixture
def checkpoint(tmp_path):
    """A function that writes a checkpoint of an untrained model of the ring recipe."""

    def write(path, step=1, **data):
        settings = yaml.safe_load(RECIPE.read_text())
        config = {key: settings[key] for key in ("model", "data", "trainer")}
        config["trainer"] = {"callbacks": copy.deepcopy(settings["trainer"]["callbacks"])}
        config["trainer"]["callbacks"][2]["init_args"]["num_samples"] = 40
        config["data"]["init_args"] |= {"num_samples": 64, "num_val": 8, "batch_size": 8} | data
        config = qualified(config)
        model = instantiate(GenerativeModel, config["model"])
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": model.state_dict(), "config": config, "global_step": step}, path)
        return path

    return write


def qualified(config):
    """Class paths as a resolved configuration has them."""
    import lightning_gen.callbacks as callbacks
    import lightning_gen.data as data
    import lightning_gen.families as families
    import lightning_gen.losses as losses
    import lightning_gen.metrics as metrics
    import lightning_gen.networks as networks

    rooms = (callbacks, data, families, losses, metrics, networks)

    def full(name):
        return next((f"{room.__name__}.{name}" for room in rooms if hasattr(room, name)), name)

    def walk(value):
        if isinstance(value, dict):
            return {k: full(v) if k == "class_path" else walk(v) for k, v in value.items()}
        return [walk(v) for v in value] if isinstance(value, list) else value

    return walk(config)


def test_checkpoints_of_one_recipe_stand_in_one_table(checkpoint, tmp_path, capsys):
    for step in (20, 3):
        checkpoint(f"run/checkpoints/{step}.ckpt", step)
    run(["evaluate", "--accelerator=cpu", "--ckpt_path", str(tmp_path / "run/checkpoints/*.ckpt")])
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [row["step"] for row in result["results"]] == [3, 20]
    assert result["protocol"]["fid_raw"]["reference"]["num"] == 64
    assert "fid_raw" in capsys.readouterr().out


def test_checkpoints_of_different_data_are_not_compared(checkpoint, tmp_path, capsys):
    checkpoint("run/a.ckpt", 1)
    checkpoint("run/b.ckpt", 2, num_samples=80)
    with pytest.raises(SystemExit):
        run(["evaluate", "--accelerator=cpu", "--ckpt_path", str(tmp_path / "run" / "*.ckpt")])
    assert "evaluate them apart" in capsys.readouterr().err
    assert not (tmp_path / "run" / "evaluation.json").exists()


def test_nothing_is_measured_where_there_is_no_last_checkpoint(capsys):
    with pytest.raises(SystemExit):
        run(["validate", "--config", str(RECIPE), "--ckpt_path", "last"])
    assert "there is no checkpoint in runs/gan_ring8" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_run_is_resumed_in_its_folder_and_elsewhere_in_a_new_one(command, checkpoint):
    path = checkpoint("runs/gan_ring8/version_3/checkpoints/last.ckpt")
    for words, folder in {
        (): "runs/gan_ring8/version_3",
        ("--run_name", "other"): "runs/other/version_0",
        ("--trainer.default_root_dir", "elsewhere"): "elsewhere/gan_ring8/version_0",
    }.items():
        built = command("fit", *CPU, "--ckpt_path", path, *words)
        assert Path(built.trainer.log_dir).resolve() == Path(folder).resolve()


def test_several_allow_add_up():
    from lightning_gen.commands import _one_allow

    words = ["sample", "--allow", "a", "--num", "3", "--allow=b,c"]
    assert _one_allow(words) == ["sample", "--num", "3", "--allow=a,b,c"]
    assert _one_allow(["fit"]) == ["fit"]


def test_another_evaluation_takes_another_name(checkpoint, tmp_path):
    path = checkpoint("run/checkpoints/1.ckpt")
    for samples in (40, 40, 50):
        run(["evaluate", "--accelerator=cpu", f"--ckpt_path={path}", f"--num_samples={samples}"])
    assert sorted(p.name for p in (tmp_path / "run").glob("*.json")) == ["evaluation.json", "evaluation_1.json"]


def test_a_stopped_sweep_goes_on_but_not_with_another_model(checkpoint, tmp_path, monkeypatch):
    from lightning_gen.callbacks import Evaluation

    calls, measure = [], Evaluation.measure
    monkeypatch.setattr(Evaluation, "measure", lambda *args: calls.append(1) or measure(*args))
    paths = [checkpoint(f"run/checkpoints/{step}.ckpt", step) for step in (1, 2)]
    command = ["evaluate", "--accelerator=cpu", f"--output={tmp_path}/e"]
    run([*command, f"--ckpt_path={paths[0]}"])
    run([*command, f"--ckpt_path={tmp_path}/run/checkpoints/*.ckpt"])
    assert len(calls) == 2
    assert [row["step"] for row in json.loads((tmp_path / "e.json").read_text())["results"]] == [1, 2]
    over = tmp_path / "over.yaml"
    over.write_text("model: {init_args: {num_critic_steps: 3}}")
    run([*command, f"--ckpt_path={paths[0]}", f"--config={over}"])
    assert len(calls) == 3
    checkpoint("run/checkpoints/1.ckpt", 1)  # the same name, other weights
    run([*command, f"--ckpt_path={paths[0]}"])
    assert len(calls) == 4


def test_a_broken_checkpoint_does_not_stop_the_others(checkpoint, tmp_path, capsys):
    for step in (1, 2, 3):
        path = checkpoint(f"run/checkpoints/{step}.ckpt", step)
        if step == 2:
            content = torch.load(path)
            content["state_dict"] = {k: torch.full_like(v, torch.nan) for k, v in content["state_dict"].items()}
            torch.save(content, path)
    with pytest.raises(SystemExit):
        run(["evaluate", "--accelerator=cpu", f"--ckpt_path={tmp_path}/run/checkpoints/*.ckpt"])
    assert re.search(r"error: \S+2\.ckpt could not be measured: sample 0 of the set holds NaN", capsys.readouterr().err)
    results = json.loads((tmp_path / "run" / "evaluation.json").read_text())["results"]
    assert [row["step"] for row in results] == [1, 3]


def test_flags_of_the_other_way_in_are_refused(checkpoint, tmp_path, capsys):
    path = checkpoint("run/1.ckpt")
    over = tmp_path / "over.yaml"
    over.write_text("modle: {}")
    for flags, told in (
        (["--labels"], "--labels is about files of images"),
        (["--num_workers=2"], "--num_workers is about files of images"),
        ([f"--samples={tmp_path}"], "either --ckpt_path"),
        ([f"--config={over}"], "'modle' is no key of a recipe"),
    ):
        with pytest.raises(SystemExit):
            run(["evaluate", "--accelerator=cpu", f"--ckpt_path={path}", *flags])
        assert told in capsys.readouterr().err


def test_statistics_made_ahead_are_the_reference_of_checkpoints(checkpoint, tmp_path):
    import numpy as np

    path = checkpoint("run/1.ckpt")
    np.savez(tmp_path / "stats.npz", mu=np.zeros(2), sigma=np.eye(2))
    run(
        ["evaluate", "--accelerator=cpu", f"--ckpt_path={path}", f"--reference={tmp_path}/stats.npz", "--metrics=[FID]"]
    )
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(result["protocol"]) == ["fid_raw"]
    assert result["protocol"]["fid_raw"]["reference"]["num"] is None


def test_the_last_checkpoint_is_not_measured_twice(checkpoint, tmp_path):
    for name in ("last", "step=5"):
        checkpoint(f"run/checkpoints/{name}.ckpt", 5)
    run(["evaluate", "--accelerator=cpu", f"--ckpt_path={tmp_path}/run/checkpoints/*.ckpt"])
    assert len(json.loads((tmp_path / "run" / "evaluation.json").read_text())["results"]) == 1
