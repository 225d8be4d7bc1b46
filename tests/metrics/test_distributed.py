"""Any number of processes gives one value: real processes, gloo, different batch sizes, ranks with nothing to do."""

import json
import warnings

import pytest
import torch
from metrics_fakes import Linear, Table, sampler, vectors
from metrics_workers import SETS, WORLDS, metrics_of, run, sizes, worker

from lightning_gen.metrics import FID
from lightning_gen.noise import sample_seeds


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    # from a server that has imported everything once and has no threads
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload(["metrics_workers"])
    torch.multiprocessing.start_processes(worker, (folder,), nprocs=max(WORLDS), start_method="forkserver")
    with warnings.catch_warnings():
        run(0, 1, folder)
    return folder, {(w, r): json.loads((folder / f"{w}-{r}.json").read_text()) for w in (1, *WORLDS) for r in range(w)}


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
    assert all(f"{n} {metric.name}" in one for n in SETS for metric in metrics_of(n))
    for (world_size, _), of in results.items():
        assert of.keys() == one.keys() if world_size < WORLDS[0] else of.keys() < one.keys()
        for name, value in of.items():
            assert value == pytest.approx(one[name], rel=1e-9, abs=1e-9, nan_ok=True), (world_size, name)


def test_the_same_in_every_process(results):
    for world_size in WORLDS:
        assert sizes(world_size)
        for rank in range(1, world_size):
            assert json.dumps(results[world_size, rank]) == json.dumps(results[world_size, 0])


def test_negative_control_padding_changes_the_value(outcome, results):
    """DistributedSampler's padded duplicates are what the comparison above would catch."""
    from torch.utils.data import DistributedSampler

    padded = torch.cat(
        [torch.tensor(list(DistributedSampler(range(1001), num_replicas=3, rank=r, shuffle=False))) for r in range(3)]
    )
    assert len(padded) == 1002
    fid = FID(Linear())
    fid.fit_reference(Table(vectors(1001)), cache_dir=outcome[0])
    fid.begin(1002)
    fid.update(sampler(sample_seeds(3, padded)))
    assert float(fid.compute()) != pytest.approx(results[1, 0]["1001 fid_linear"], rel=1e-5)
