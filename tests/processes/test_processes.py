"""Several processes train, average and measure what one process does."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("train_gan.py")


def train(folder, devices, **options):
    words = [f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, str(SCRIPT), str(folder), f"--devices={devices}", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"devices={devices}-rank={r}.pt", weights_only=True) for r in range(devices)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    return train(folder, 1)[0], train(folder, 2)


def test_two_processes_train_what_one_does_on_the_concatenated_batch(runs):
    one, (first, second) = runs
    assert first["world_size"] == 2
    for name, tensor in one["state"].items():
        torch.testing.assert_close(first["state"][name], tensor, rtol=1e-6, atol=1e-9)
        assert torch.equal(first["state"][name], second["state"][name]), name


def test_averaged_weights_agree_across_processes(runs):
    one, (first, second) = runs
    for name, tensor in one["averaged"].items():
        torch.testing.assert_close(first["averaged"][name], tensor, rtol=1e-6, atol=1e-9)
        assert torch.equal(first["averaged"][name], second["averaged"][name])


def test_ranks_draw_different_noise_and_steps_too(runs):
    _, (first, second) = runs
    for a, b in zip(first["noise"], second["noise"], strict=True):
        assert not torch.equal(a, b)
    assert not torch.equal(first["noise"][0], first["noise"][1])


def test_metrics_are_the_same_for_any_number_of_processes(runs):
    one, (first, second) = runs
    assert {"fid_digits", "is_digits"} <= one["metrics"].keys()
    assert first["metrics"] == second["metrics"]
    for name, value in one["metrics"].items():
        # samples agree to rounding, and metrics are logged in float32; the samples of this hardly trained model are all
        # alike, so that spreads and error bars are nothing but rounding of a FID above 1000
        assert first["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-4), name


def test_the_comparison_can_fail(runs, tmp_path):
    one, _ = runs
    other = train(tmp_path, 2, accumulate=1)[0]
    assert any(not torch.allclose(other["state"][n], t, rtol=1e-6, atol=1e-9) for n, t in one["state"].items())
