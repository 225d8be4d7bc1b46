"""Any number of processes gives one value: real processes, gloo, different batch sizes, ranks with nothing to do."""

import json
import warnings

import pytest
import torch
from metrics_fakes import Table, sampler, vectors
from metrics_workers import metrics_of, run, worker

from lightning_gen.noise import sample_seeds


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    torch.multiprocessing.spawn(worker, (folder,), nprocs=3)
    with warnings.catch_warnings():
        run(0, 1, folder)
    return folder, {
        (w, r): json.loads((folder / f"{w}-{r}.json").read_text())
        for w, r in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2))
    }


@pytest.fixture
def results(outcome):
    return outcome[1]


def test_processes_that_write_one_cache_at_once(outcome):
    """The workers raise on any warning, such as one about a damaged file."""
    files = sorted((outcome[0] / "concurrent").iterdir())
    assert len(files) == 2
    assert {f.suffix for f in files} == {".safetensors"}


def test_equal_for_any_number_of_processes(results):
    one = results[1, 0]
    assert len(one) == 15
    for of in results.values():
        for name, value in of.items():
            assert value == pytest.approx(one[name], rel=1e-10, abs=1e-10), name


def test_the_same_in_every_process(results):
    assert results[2, 0] == results[2, 1]
    assert results[3, 0] == results[3, 1] == results[3, 2]


def test_negative_control_padding_changes_the_value(results):
    """DistributedSampler's padded duplicates are what the comparison above would catch."""
    from torch.utils.data import DistributedSampler

    padded = torch.cat(
        [torch.tensor(list(DistributedSampler(range(101), num_replicas=3, rank=r, shuffle=False))) for r in range(3)]
    )
    assert len(padded) == 102
    fid = metrics_of(10)[0]
    fid.fit_reference(Table(vectors(101)))
    fid.begin(102)
    fid.update(sampler(sample_seeds(3, padded)))
    assert float(fid.compute()) != pytest.approx(results[1, 0]["101 fid_linear"], rel=1e-4)
