"""The launchers work as they are: torchrun with two processes, SLURM with its commands replaced by stand-ins."""

import dataclasses
import importlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from lightning_gen.data.rows import TensorRows
from lightning_gen.losses import R1

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "configs" / "gan" / "dcgan_digits.yaml"
LAUNCHERS = [ROOT / "scripts" / "torchrun" / "train.sh", ROOT / "scripts" / "slurm" / "train.sbatch"]
TINY = """\
model:
  init_args:
    generator: {init_args: {width: 2}}
    discriminator: {init_args: {width: 2}}
trainer:
  accelerator: cpu
  max_steps: 4
  limit_val_batches: 0
  log_every_n_steps: 1000
  callbacks:
    - class_path: EMA
    - class_path: LastCheckpoint
      init_args: {every_n_train_steps: 2}
data:
  init_args: {batch_size: 4}
"""
OPTIONS = ["--config", "tiny.yaml"]

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    foreign = ("SLURM_", "LIGHTNING_GEN_", "MASTER_", "TORCHELASTIC_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}


@pytest.mark.parametrize("script", LAUNCHERS, ids=lambda path: path.name)
def test_syntax_and_usage(script, environment, tmp_path):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    done = subprocess.run([script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_torchrun_trains_two_processes_into_one_folder(environment, tmp_path):
    command = [LAUNCHERS[0], RECIPE, *OPTIONS, "--run_name", "two"]
    done = subprocess.run(
        command, env=environment | {"NPROC": "2"}, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in (tmp_path / "runs" / "two").iterdir()] == ["version_0"]
    assert step(tmp_path / "runs" / "two" / "version_0" / "checkpoints" / "last.ckpt") == 4
    assert done.stdout.count("Go on with") == 1


def test_torchrun_says_what_several_machines_need(environment, tmp_path):
    command, env = [LAUNCHERS[0], RECIPE], environment | {"NNODES": "2", "NPROC": "1"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "NODE_RANK must be set" in done.stderr


SRUN = """\
#!/usr/bin/env bash
# runs the one task here, as SLURM would on the job's machine
echo $$ > "$FAKE/pid"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """\
#!/usr/bin/env bash
# SLURM ends the tasks of a job that is requeued; here they get no time to do anything
echo "$@" >> "$FAKE/requeued"
kill -KILL "$(cat "$FAKE/pid")"
"""
COMMAND = f'#!/usr/bin/env bash\nexec "{sys.executable}" -m lightning_gen "$@"\n'


def test_slurm_requeues_on_the_signal_and_goes_on_in_the_same_folder(environment, tmp_path):
    fake = tmp_path / "bin"
    fake.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("lightning_gen", COMMAND)):
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "4242",
        "SLURM_JOB_NAME": "lightning_gen",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    env = environment | job | {"PATH": f"{fake}:{environment['PATH']}", "FAKE": str(fake)}
    folder = tmp_path / "runs" / "dcgan_digits_4242" / "version_0"
    last = folder / "checkpoints" / "last.ckpt"

    with (tmp_path / "first.log").open("w") as log:
        command = [LAUNCHERS[1], RECIPE, *OPTIONS, "--trainer.max_steps", "1000000"]
        first = subprocess.Popen(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
        try:
            wait_until(last.exists, first, tmp_path / "first.log")
            os.kill(int((fake / "pid").read_text()), signal.SIGUSR1)  # a stray one does nothing to the training itself
            saved = last.stat().st_mtime_ns
            wait_until(lambda: last.stat().st_mtime_ns > saved, first, tmp_path / "first.log")
            first.send_signal(signal.SIGUSR1)
            assert first.wait(timeout=30) != 0
        finally:
            first.kill()
    assert (fake / "requeued").read_text() == "requeue 4242\n"
    assert not list(tmp_path.rglob("hpc_ckpt_*"))
    reached = step(last)

    command = [LAUNCHERS[1], RECIPE, *OPTIONS, "--trainer.max_steps", str(reached + 3)]
    again = subprocess.run(
        command, env=env | {"SLURM_RESTART_COUNT": "1"}, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert again.returncode == 0, again.stderr[-3000:]
    assert step(last) == reached + 3
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    assert (folder / "config.yaml").exists()
    assert (folder / "config_resumed_1.yaml").exists()
    assert (fake / "requeued").read_text() == "requeue 4242\n"


def step(path):
    return torch.load(path, weights_only=True)["global_step"]


def wait_until(condition, process, log, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.05)


def test_evaluation_benchmark_measures_and_tells_what_it_is(tmp_path, monkeypatch, capsys):
    """With few images and its earliest tap; memory is measured in other processes, which take long to start."""
    path = ROOT / "scripts" / "benchmark_evaluation.py"
    spec = importlib.util.spec_from_file_location("benchmark_evaluation", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    monkeypatch.setattr(benchmark, "memory_of", lambda name, options: 1.0)
    words = (
        "--feature 64 --num_images 2 --num_compared 4 --rounds 1 --frechet_rounds 1 --frechet_features 8 --arms ours"
    )
    output = tmp_path / "benchmark.json"
    monkeypatch.setattr(sys, "argv", [str(path), *words.split(), "--device", "cpu", "--output", str(output)])
    with warnings.catch_warnings():
        benchmark.main()
    content = json.loads(output.read_text())
    assert content["table"] in capsys.readouterr().out
    assert content["weights"] == "random"
    ours = content["extractors"]["ours"]
    assert ours["images_per_second"] > 0
    assert ours["fid"] > 0
    assert ours["fid_difference"] < 1e-5
    assert all(way["difference"] < 1e-9 for way in content["distances"].values())
    monkeypatch.setattr(sys, "argv", [str(path), "--arms", "theirs"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--arms holds theirs, but there are torch_fidelity" in capsys.readouterr().err


# -------------------------------------------------------------------- the benchmark of a step


@pytest.fixture
def step_benchmark(monkeypatch, tmp_path):
    """The benchmark, its recipes, and a function that sets the command line; sizes are tiny."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    benchmark, recipes = (importlib.import_module(name) for name in ("benchmark_step", "benchmark_step_recipes"))
    # memory is measured in other processes, which take long to start, and so do the workers of the other arms
    monkeypatch.setattr(benchmark, "memory_of", lambda name, options: 1.0)
    monkeypatch.setattr(benchmark, "NUM_IMAGES", 64)
    for name, recipe in recipes.RECIPES.items():
        monkeypatch.setitem(recipes.RECIPES, name, dataclasses.replace(recipe, arms=("plain", "fit_bare", "fit")))

    def command(recipe, *words):
        sizes = "--batch_size=3 --image_size=16 --width=4 --rounds=1 --steps=2 --warmup=1 --device=cpu"
        output = tmp_path / "benchmark.json"
        monkeypatch.setattr(sys, "argv", ["", f"--recipe={recipe}", *sizes.split(), f"--output={output}", *words])
        return output

    return benchmark, recipes, command


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", ["dcgan", "sngan", "biggan"])
def test_step_benchmark_measures_and_tells_phases(recipe, step_benchmark, capsys):
    benchmark, _, command = step_benchmark
    output = command(recipe, "--phases=1", "--steps=1", "--channels_last")
    benchmark.main()
    content, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert content["table"] in printed
    assert list(content["results"]) == ["plain", "fit_bare", "fit"]
    assert all(row["median"] > 0 and len(row["seconds"]) == 1 for row in content["results"].values())
    assert content["results"]["fit"]["ratio"] > 0
    assert len(content["phases"]) == 5
    assert all(seconds > 0 and f"| {phase} |" in printed for phase, seconds in content["phases"].items())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", ["dcgan", "sngan", "biggan"])
def test_the_loop_by_hand_trains_what_fit_trains(recipe, step_benchmark, monkeypatch):
    """All images and all latents of a place in the batch are the same, so that no order matters."""
    benchmark, recipes, command = step_benchmark
    command(recipe)
    options, made, randn = benchmark.parse(), [], torch.randn
    entry = recipes.RECIPES[recipe]

    def networks(options):
        made.append(entry.networks(options))
        return made[-1]

    monkeypatch.setitem(recipes.RECIPES, recipe, dataclasses.replace(entry, networks=networks))
    monkeypatch.setattr(torch, "randn", lambda *s, **k: randn(*s, generator=torch.Generator().manual_seed(len(s)), **k))
    x = torch.arange(3 * 16 * 16).remainder(256).to(torch.uint8).reshape(1, 3, 16, 16)
    rows = TensorRows(x.expand(32, -1, -1, -1), torch.full((32,), 3) if entry.conditional else None)
    for arm in ("plain", "fit_bare"):
        benchmark.run_arm(arm, rows, options, steps=2)
    command(recipe, "--precision=bf16-mixed")
    benchmark.run_arm("plain", rows, benchmark.parse(), steps=2)
    by_hand, by_fit, otherwise = (torch.nn.ModuleList(pair).state_dict() for pair in made)
    for name, tensor in by_hand.items():
        torch.testing.assert_close(by_fit[name], tensor, rtol=1e-6, atol=1e-7, msg=name)
    assert not all(torch.equal(otherwise[name], tensor) for name, tensor in by_hand.items())


@pytest.mark.filterwarnings("ignore")
def test_phases_add_up_to_the_step(step_benchmark):
    benchmark, _, command = step_benchmark
    command("dcgan")
    options = benchmark.parse()
    phases, ticks = benchmark.Phases(1, 4, torch.device("cpu")), itertools.count()
    phases.now = lambda: next(ticks)  # a second for each look at the clock

    def prepare(model):
        model.penalties.append(R1())
        phases.watch(model)

    benchmark.train_by_fit(benchmark.images(options), phases, options, False, False, False, prepare)
    assert abs(sum(phases.taken.values()) - phases.seconds) <= 2  # its own looks at the first step and at the last
    of_network = {name: seconds / 3 for name, seconds in phases.taken.items() if "the rest" not in name}
    assert of_network == {
        "critic, forward and backward": 2,  # before the penalty, and after it
        "penalties, forward": 1,
        "critic, optimiser": 1,
        "generator, forward and backward": 1,
        "generator, optimiser and schedules": 1,
    }
