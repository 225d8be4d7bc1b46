"""What the strategy averages, and what it leaves alone; whole runs of several processes are in processes/."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lightning_gen import strategies
from lightning_gen.strategies import FlatReduceStrategy


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.learning, self.frozen = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.frozen.requires_grad_(False).eval()
        for norm in (self.learning, self.frozen):
            norm.running_mean.copy_(torch.tensor([0.4417035, 0.957136, 0.4420093]))


@pytest.fixture
def averaged(monkeypatch):
    """A model after one of three processes that all have the same has averaged."""
    dist = SimpleNamespace(all_reduce=lambda flat: flat.copy_(flat + flat + flat), get_world_size=lambda: 3)
    monkeypatch.setattr(strategies, "dist", dist)
    monkeypatch.setattr(FlatReduceStrategy, "model", model := Model())
    model.learning.weight.grad = torch.tensor([1.0, 2.0, 3.0])
    FlatReduceStrategy.average(FlatReduceStrategy.__new__(FlatReduceStrategy), torch.optim.SGD(model.parameters(), 0.1))
    return model


def test_what_is_frozen_is_not_even_rounded(averaged):
    before = Model().state_dict()
    for name, tensor in averaged.state_dict().items():
        if name.startswith("frozen"):
            assert torch.equal(tensor, before[name]), name
    torch.testing.assert_close(averaged.learning.running_mean, before["learning.running_mean"])
    assert not torch.equal(averaged.learning.running_mean, before["learning.running_mean"])  # thirds of sums of three
    assert averaged.learning.num_batches_tracked == 0


def test_gradients_are_means(averaged):
    torch.testing.assert_close(averaged.learning.weight.grad, torch.tensor([1.0, 2.0, 3.0]))
    assert averaged.frozen.weight.grad is None
