"""Two processes say of held-out rows what one says."""

import json
import warnings

import pytest
import torch
from held_out_workers import run, worker


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held_out")
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload(["held_out_workers"])
    torch.multiprocessing.start_processes(worker, (folder,), nprocs=2, start_method="forkserver")
    with warnings.catch_warnings():
        run(0, 1, folder)
    return [json.loads((folder / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")]


def test_two_processes_are_one(results):
    one, first, _ = results
    assert {"nll_is3_nats", "elbo_kl_nats_se", "active_units", "mig", "dci_completeness", "reconstruction_fid_raw"} < {
        *one
    }
    assert list(one) == list(first)
    assert first == pytest.approx(one, rel=1e-9)


def test_every_process_has_the_same(results):
    assert results[1] == results[2]
