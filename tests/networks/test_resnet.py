"""SNGAN's, WGAN-GP's and SAGAN's networks."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lightning_gen.errors import UserError
from lightning_gen.networks import Classifier, Orthogonal, ResNetDiscriminator, ResNetGenerator


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def conv(before, after, side=3):
    return side * side * before * after + after


def generator_size(latent, maps, base, channels=3):
    """Parameters of mimicry's generators, by layer."""
    total = (latent + 1) * base * base * maps[0]
    for a, b in pairwise(maps):
        total += 2 * a + conv(a, b) + 2 * b + conv(b, b) + conv(a, b, 1)
    return total + 2 * maps[-1] + conv(maps[-1], channels)


def discriminator_size(maps, halvings, channels=3):
    total = conv(channels, maps[0]) + conv(maps[0], maps[0]) + conv(channels, maps[0], 1)
    for k, (a, b) in enumerate(pairwise(maps), start=1):
        total += conv(a, a) + conv(a, b) + (conv(a, b, 1) if a != b or k < halvings else 0)
    return total + maps[-1] + 1


# mimicry's programs have these numbers of parameters, the discriminators without spectral norm's vectors.
PUBLISHED = [
    (32, [256] * 4, 4, [128] * 4, 2, 4_276_739, 1_053_825),
    (48, [512, 256, 128, 64], 6, [64, 128, 256, 512, 1024], 4, 4_878_083, 10_141_441),
    (64, [1024, 512, 256, 128, 64], 4, [64, 128, 256, 512, 1024], 4, 12_220_675, 10_141_441),
    (128, [1024, 1024, 512, 256, 128, 64], 4, [64, 128, 256, 512, 1024, 1024], 5, 32_150_787, 29_017_857),
]


@pytest.mark.parametrize(("size", "up", "base", "down", "halvings", "large", "small"), PUBLISHED)
def test_published_sizes(size, up, base, down, halvings, large, small):
    assert generator_size(128, up, base) == large
    assert discriminator_size(down, halvings) == small
    with torch.device("meta"):
        assert count(ResNetGenerator(size)) == large
        assert count(ResNetDiscriminator(size, spectral_norm=False)) == small
        assert count(ResNetDiscriminator(size, spectral_norm=False, num_classes=10)) == small + 10 * down[-1]


def test_spectral_norm_covers_the_discriminator_and_not_the_generator_unless_asked():
    def covered(network):
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
        return {is_parametrized(layer) for layer in layers}

    small = {"image_size": 8, "width": 4, "num_classes": 3}
    assert covered(ResNetDiscriminator(**small)) == {True}
    assert covered(ResNetDiscriminator(**small, spectral_norm=False)) == {False}
    assert covered(ResNetGenerator(**small)) == {False}
    assert covered(ResNetGenerator(**small, spectral_norm=True, attention=[8])) == {True}


def test_no_normalisation_in_the_discriminator():
    assert not any(isinstance(m, nn.BatchNorm2d | nn.LayerNorm) for m in ResNetDiscriminator(8, width=4).modules())


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_pooling(pooling):
    torch.manual_seed(0)
    network = ResNetDiscriminator(16, width=4, pooling=pooling).eval().double()
    x = torch.randn(3, 3, 16, 16).double()
    maps = network.blocks(x)
    expected = torch.where(maps > 0, maps, 0).sum(dim=(2, 3)) / (16 if pooling == "mean" else 1)
    torch.testing.assert_close(network(x).features, expected)


def test_a_class_sets_gains_and_biases_of_the_blocks():
    torch.manual_seed(0)
    network = ResNetGenerator(8, latent_dim=4, width=4, num_classes=3).double()
    z, y = torch.randn(6, 4).double(), torch.tensor([0, 1, 2, 2, 1, 0])
    h = network.project(z).unflatten(1, network.base)
    (block,) = network.blocks

    def norm(layer, x):
        gain, bias = (1 + layer.gain.weight).T[y], layer.bias.weight.T[y]
        return gain[:, :, None, None] * nn.functional.batch_norm(x, None, None, training=True) + bias[:, :, None, None]

    r = block.conv1(block.up(norm(block.norm1, h).relu()))
    h = block.up(block.shortcut(h)) + block.conv2(norm(block.norm2, r).relu())
    expected = network.image[2](nn.functional.batch_norm(h, None, None, training=True).relu()).tanh()
    torch.testing.assert_close(network(z, y), expected)


def test_initial_weights():
    torch.manual_seed(0)
    network = ResNetGenerator(32, width=64, init=Orthogonal)
    values = torch.linalg.svdvals(network.blocks[0].conv1.weight.detach().flatten(1))
    torch.testing.assert_close(values, torch.ones(64))
    network = ResNetDiscriminator(32, width=64)
    block = network.blocks[1]
    for layer, gain, fans in [(block.conv1, 2**0.5, 9 * 128), (block.shortcut, 1, 128), (network.head.score, 1, 65)]:
        assert (layer.bias == 0).all()
        weight = layer.parametrizations.weight.original
        assert weight.abs().max().item() == pytest.approx(gain * (6 / fans) ** 0.5, rel=0.05)


def test_other_heads():
    torch.manual_seed(0)
    judged = ResNetDiscriminator(8, width=4, num_classes=5, head=Classifier)(torch.randn(2, 3, 8, 8))
    assert judged.logits.shape == (2, 5)


@pytest.mark.parametrize(
    ("network", "given", "words"),
    [
        (ResNetGenerator, {"image_size": 30}, "image_size 30"),
        (ResNetDiscriminator, {"image_size": (30, 32)}, "image_size"),
        (ResNetGenerator, {"image_size": 64, "width": 100}, "width is 100"),
        (ResNetDiscriminator, {"image_size": 128, "width": 8}, "width is 8"),
        (ResNetGenerator, {"attention": [4]}, "attention at 4 pixels"),
        (ResNetDiscriminator, {"attention": [32]}, "attention at 32 pixels"),
    ],
)
def test_impossible_settings_are_refused(network, given, words):
    with pytest.raises(UserError, match=words):
        network(**{"width": 16} | given)
