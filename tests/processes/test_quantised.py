"""Two processes train the codebooks that one process does, k-means start and revival included."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

SCRIPT = Path(__file__).with_name("train_quantised.py")
CASES = [
    "vector-ddp",
    "vector-flat_reduce",
    "cosine-flat_reduce",
    "residual-ddp",
    "gradient-ddp",
    "lookup_free-flat_reduce",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised")
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    names = [(1, 0), (2, 0), (2, 1)]
    return [torch.load(folder / f"devices={d}-rank={r}.pt", weights_only=True) for d, r in names]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_does(runs, case):
    one, first, second = runs
    alone, first, second = one[f"{case.split('-')[0]}-alone"], first[case], second[case]
    for name, tensor in alone["state"].items():
        assert_close(first["state"][name], tensor, rtol=1e-6, atol=1e-9)
        assert torch.equal(first["state"][name], second["state"][name]), name
    assert len(alone["terms"]) == 3
    for a, b, c in zip(alone["terms"], first["terms"], second["terms"], strict=True):
        assert a.keys() == b.keys() == c.keys()
        for name in a:
            assert_close(b[name], a[name])
            assert torch.equal(b[name], c[name]), name


@pytest.mark.parametrize("quantiser", ["vector", "residual"])
def test_some_codes_were_dead(runs, quantiser):
    usage = [terms["codebook_usage"] for terms in runs[0][f"{quantiser}-alone"]["terms"]]
    assert min(usage) < 1
