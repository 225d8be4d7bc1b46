"""What fills no step at the end of an epoch: an epoch's batches and it are all samples, once."""

import pytest
import torch

from lightning_gen.data import TensorRows
from lightning_gen.data.loader import Companion, TrainLoader


class Place(Companion):
    keeps_classes = True

    def beside(self, position):
        return {"place": position}


def rows(count=11):
    return TensorRows(torch.arange(count)[:, None], torch.arange(count) % 3)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 4])
def test_with_the_batches_it_is_all_samples(world_size, epoch):
    parts, places, shares = [], [], []
    for rank in range(world_size):
        options = {"epoch": epoch, "rank": rank, "world_size": world_size, "companion": Place(), "flip": True}
        loader = TrainLoader(rows(), 2, **options)
        batches = list(loader)
        left = loader.left_out()
        assert left.keys() == batches[0].keys()
        assert all(len(value) == len(left["x"]) for value in left.values())
        assert torch.equal(left["y"], left["x"][:, 0] % 3)
        parts += [batch["x"] for batch in (*batches, left)]
        places += [batch["place"] for batch in (*batches, left)]
        shares.append(len(left["x"]))
    assert torch.cat(parts).flatten().sort().values.tolist() == list(range(11))
    assert len(torch.cat(places).unique()) == 11
    assert max(shares) - min(shares) <= 1


def test_where_batches_are_everything_there_is_none():
    loader = TrainLoader(rows(12), 2, world_size=2)
    list(loader)
    assert loader.left_out() is None


def test_processes_may_have_none_of_it():
    loader = TrainLoader(rows(9), 2, rank=1, world_size=2)
    list(loader)
    left = loader.left_out()
    assert left["x"].shape == (0, 1)
    assert left["y"].shape == (0,)


def test_it_belongs_to_the_present_epoch():
    loader = TrainLoader(rows(), 2)
    found = []
    for _ in range(2):
        taken = torch.cat([batch["x"] for batch in loader])
        found.append(
            sorted(set(range(11)) - set(taken.flatten().tolist())) == loader.left_out()["x"].flatten().tolist()
        )
    assert found == [True, True]
