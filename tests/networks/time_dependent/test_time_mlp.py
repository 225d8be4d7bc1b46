"""The fully connected network of a sample and a time."""

import math

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks.time_dependent import Sinusoidal, TimeMLP


@pytest.mark.parametrize(("sample_dim", "shape"), [(3, (3,)), ([1, 2, 2], (1, 2, 2))])
def test_it_is_the_formula(sample_dim, shape):
    torch.manual_seed(0)
    network = TimeMLP(sample_dim, 5, 2).double()
    x, t = torch.randn(4, *shape).double(), torch.rand(4).double()
    weights = dict(network.named_parameters())

    def linear(name, h):
        return h @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def swish(h):
        return h / (1 + torch.exp(-h))

    angles = 10 * t[:, None] * torch.tensor([100 ** (-k / 31) for k in range(32)])  # 64 features, from 10 down to 0.1
    features = torch.cat((torch.cos(angles), torch.sin(angles)), dim=1)
    embedding = swish(linear("embedding.second", swish(linear("embedding.first", features))))
    h = linear("entry", x.reshape(4, -1))
    for k in range(2):
        h = h + linear(f"layers.{k}", swish(h + embedding))
    found = network(x, t)
    assert network.sample_shape == found.shape[1:] == shape
    torch.testing.assert_close(found.reshape(4, -1), linear("exit", swish(h)), atol=1e-6, rtol=1e-6)


def test_features_of_time_may_be_chosen():
    network = TimeMLP(2, 4, 1, time_features=lambda dim: Sinusoidal(dim, math.pi))
    assert network.embedding.features.scale == math.pi


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}])
def test_what_is_not_possible_is_refused_of_the_perceptron(options):
    with pytest.raises(UserError, match=r"TimeMLP\.(width|depth) is 0: it must be at least 1"):
        TimeMLP(2, **options)
