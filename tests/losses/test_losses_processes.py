"""Losses that look at a whole batch: two processes have the gradient of one with the concatenated batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from losses_in_processes import BOUNDS, results

SCRIPT = Path(__file__).with_name("losses_in_processes.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    commands = [[sys.executable, str(SCRIPT), str(folder), str(rank)] for rank in range(2)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-3000:]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1, "alone")]


@pytest.mark.parametrize("name", [*BOUNDS, "optimal"])
def test_two_processes_have_the_gradient_of_one(found, name):
    first, second, _ = (rank[name] for rank in found)
    torch.testing.assert_close((first + second) / 2, results(0, 1)[name])
    assert not torch.equal(first, second)  # each sees its own samples


@pytest.mark.parametrize("name", ["free_bits", "capacity", "infovae", "stratified", "optimal"])
def test_without_talking_they_would_have_another(name):
    alone = [results(rank, 2)[name] for rank in range(2)]
    assert (sum(alone) / 2 - results(0, 1)[name]).abs().max() > 1e-3


@pytest.mark.parametrize("name", [*BOUNDS, "optimal"])
def test_alone_nobody_is_talked_to(found, name):
    torch.testing.assert_close(found[2][name], results(0, 2)[name])
