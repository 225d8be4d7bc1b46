"""Two processes estimate the densities that one process does, samples that fill no step included."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

SCRIPT = Path(__file__).with_name("train_density_baseline.py")
CASES = ["full-ddp", "full-flat_reduce", "factors-ddp", "classes-ddp", "counts-ddp", "gradient-ddp"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("densities")
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    names = [(1, 0), (2, 0), (2, 1)]
    return [torch.load(folder / f"devices={d}-rank={r}.pt", weights_only=True) for d, r in names]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_estimate_what_one_does(runs, case):
    one, first, second = runs
    alone, first, second = one[f"{case.split('-')[0]}-alone"], first[case], second[case]
    assert first["world_size"] == 2
    assert first["steps"] == alone["steps"]
    for name, tensor in alone["state"].items():
        assert_close(first["state"][name], tensor, rtol=1e-6, atol=1e-9)
        assert torch.equal(first["state"][name], second["state"][name]), name
    assert bool(alone["state"]["started"]) == (case != "counts-ddp")
