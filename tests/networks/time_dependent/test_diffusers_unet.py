"""The networks of the package diffusers."""

import sys

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks.time_dependent import DiffusersUNet

CONFIG = {
    "sample_size": [8, 4],
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}


def build(**options):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return DiffusersUNet(CONFIG, **options).double().eval()


def inputs():
    torch.manual_seed(1)
    return torch.randn(3, 1, 8, 4).double(), torch.rand(3).double(), torch.arange(3)


def test_without_diffusers(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    sentence = r"DiffusersUNet needs the package diffusers.*pip install 'lightning_gen\[diffusers\]'"
    with pytest.raises(UserError, match=sentence):
        DiffusersUNet(CONFIG)


@torch.no_grad()
def test_it_is_the_network_of_diffusers_at_its_step():
    network = build(time_scale=500.0)
    x, t, _ = inputs()
    expected = torch.cat([network.network(x[i : i + 1], 500 * t[i]).sample for i in range(3)])
    torch.testing.assert_close(network(x, t), expected)
    assert network.sample_shape == (1, 8, 4)


@torch.no_grad()
def test_classes_enter_and_may_be_dropped():
    network = build(num_classes=3)
    x, t, y = inputs()
    dropped = torch.tensor([True, False, False])
    out, other = network(x, t, y, dropped), network(x, t, (y + 1) % 3, dropped)
    assert torch.equal(out[0], other[0])
    assert ((out - other)[1:].flatten(1).abs().amax(1) > 1e-4).all()
    torch.testing.assert_close(network(x, t, torch.eye(3).double()), network(x, t, y))


def test_every_weight_of_it_learns():
    network = build(num_classes=3)
    x, t, y = inputs()
    network(x, t, y, torch.tensor([True, False, False])).square().sum().backward()
    for name, weight in network.named_parameters():
        if ".to_k.bias" not in name:  # softmax does not see it
            assert weight.grad.abs().sum() > 0, name


def test_the_configuration_is_not_changed():
    kept = dict(CONFIG)
    build(num_classes=3)
    assert kept == CONFIG


def test_unknown_arguments_are_named():
    pytest.importorskip("diffusers")
    with pytest.raises(UserError, match=r"DiffusersUNet.config is not one of diffusers.UNet2DModel.*'colour'"):
        DiffusersUNet(CONFIG | {"colour": 1})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample_size": None}, "config has no sample_size"),
        ({"out_channels": 2}, "1 in_channels and 2 out_channels"),
        ({"num_class_embeds": 3}, "num_class_embeds 3: leave it out, and set num_classes"),
    ],
)
def test_what_is_not_possible_is_refused_of_configurations(changes, words):
    with pytest.raises(UserError, match=words):
        DiffusersUNet(CONFIG | changes)
