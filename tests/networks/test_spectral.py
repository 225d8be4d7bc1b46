"""Spectral norm, and the weights that networks start from."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lightning_gen.networks import Normal, Orthogonal, ResNetDiscriminator, Xavier
from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.initialise import ResidualConv2d
from lightning_gen.networks.spectral import normalise_spectrally


def largest(weight):
    return torch.linalg.svdvals(weight.detach().flatten(1))[0].item()


def weights(network):
    return {name: module for name, module in network.named_modules() if is_parametrized(module)}


def test_every_weight_of_a_discriminator_has_norm_one_once_iterated_and_after_a_reload():
    torch.manual_seed(0)
    make = {"image_size": 8, "channels": 1, "width": 4, "num_classes": 3, "attention": [4]}
    network = ResNetDiscriminator(**make)
    for module in weights(network).values():
        module.parametrizations.weight.original.data.mul_(3).add_(0.1)  # as if trained
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    for _ in range(150):
        scores = network(x, y).scores
    kinds = [type(module).__mro__[1] for module in weights(network).values()]
    assert {kind.__name__ for kind in kinds} == {"Conv2d", "ResidualConv2d", "Linear", "Embed"}
    assert len(kinds) == sum(isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding) for m in network.modules())
    for name, module in weights(network.eval()).items():
        assert largest(module.weight) == pytest.approx(1, abs=2e-3), name
        assert largest(module.parametrizations.weight.original) > 1.5, name
    again = ResNetDiscriminator(**make)
    again.load_state_dict(network.state_dict())
    again.eval()
    for name, module in weights(again).items():
        torch.testing.assert_close(module.weight, weights(network)[name].weight, rtol=0, atol=0)
    torch.testing.assert_close(again(x, y), network(x, y), rtol=0, atol=0)
    torch.testing.assert_close(again(x, y).scores, scores, rtol=1e-3, atol=1e-3)


def test_the_norm_starts_near_one():
    torch.manual_seed(0)
    layer = nn.Linear(20, 30)
    normalise_spectrally(layer)
    assert largest(layer.eval().weight) == pytest.approx(1, rel=0.05)


def test_gradient_is_that_of_the_quotient():
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).double()
    normalise_spectrally(layer)
    for _ in range(300):
        layer(torch.zeros(1, 4, dtype=torch.float64))
    original = layer.eval().parametrizations.weight.original
    target = torch.randn(3, 4, dtype=torch.float64)
    (layer.weight * target).sum().backward()
    free = original.detach().clone().requires_grad_()
    (free / torch.linalg.matrix_norm(free, 2) * target).sum().backward()
    torch.testing.assert_close(original.grad, free.grad)


def test_power_iteration_runs_outside_autocast():
    layer = nn.Linear(8, 8)
    normalise_spectrally(layer)
    seen = []
    inner = layer.parametrizations.weight[0].inner
    inner.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 8)).dtype == torch.bfloat16
    assert seen == [False]


def network():
    return nn.Sequential(ResidualConv2d(8, 16), nn.Conv2d(16, 32, 1), nn.Linear(40, 60), Embed(30, 50))


def test_xavier_has_its_variance_and_gain():
    torch.manual_seed(0)
    layers = network()
    Xavier()(layers)
    for layer, fans, gain in zip(layers, [9 * (8 + 16), 16 + 32, 40 + 60, 30 + 50], [2**0.5, 1, 1, 1], strict=True):
        bound = gain * (6 / fans) ** 0.5
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert all((layer.bias == 0).all() for layer in layers[:3])


def test_orthogonal_and_normal():
    torch.manual_seed(0)
    layers = network()
    Orthogonal()(layers)
    for layer in layers:
        values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        torch.testing.assert_close(values, torch.ones_like(values))
    Normal(0.3)(layers)
    found = torch.cat([layer.weight.flatten() for layer in layers])
    assert found.std().item() == pytest.approx(0.3, rel=0.03)
