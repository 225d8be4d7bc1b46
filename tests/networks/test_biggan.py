"""BigGAN's and BigGAN-deep's networks."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from lightning_gen.errors import UserError
from lightning_gen.networks import (
    BigGANDeepDiscriminator,
    BigGANDeepGenerator,
    BigGANDiscriminator,
    BigGANGenerator,
    Xavier,
)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


# The numbers of parameters of the authors' PyTorch programs on ImageNet, shared embedding 128.
@pytest.mark.parametrize(
    ("size", "latent", "generator", "discriminator"),
    [(128, 120, 70_433_988, 87_982_370), (256, 140, 82_235_844, 99_225_890)],
)
def test_published_sizes(size, latent, generator, discriminator):
    given = {"num_classes": 1000, "attention": [64], "spectral_norm": False, "init": Xavier}
    with torch.device("meta"):
        assert count(BigGANGenerator(size, latent_dim=latent, **given)) == generator
        assert count(BigGANDiscriminator(size, **given)) == discriminator


@pytest.mark.parametrize(
    ("size", "generator", "discriminator"), [(128, 50_244_484, 34_590_210), (256, 55_736_708, 38_247_426)]
)
def test_published_sizes_of_the_deep_ones(size, generator, discriminator):
    given = {"num_classes": 1000, "attention": [64], "spectral_norm": False, "init": Xavier}
    with torch.device("meta"):
        assert count(BigGANDeepGenerator(size, **given)) == generator
        assert count(BigGANDeepDiscriminator(size, **given)) == discriminator


def test_published_size_at_32_pixels():
    with torch.device("meta"):
        network = BigGANGenerator(num_classes=1000, spectral_norm=False, init=Xavier)
    assert count(network) == 9_358_595  # the authors' program at this width
    conv = 9 * 384 * 384 + 384
    block = 2 * conv + 384 * 384 + 384 + 4 * 384 * (20 + 128)
    assert count(network) == 1000 * 128 + 21 * 16 * 384 + 3 * block + 2 * 384 + 9 * 384 * 3 + 3


@pytest.mark.parametrize("num_classes", [None, 3])
def test_pieces_of_the_latent_steer_blocks_with_the_shared_class(num_classes):
    torch.manual_seed(0)
    network = BigGANGenerator(16, latent_dim=6, width=2, num_classes=num_classes, shared_dim=4)
    z, y = torch.randn(5, 6), None if num_classes is None else torch.tensor([0, 2, 1, 1, 0])
    seen = []
    for block in network.blocks:
        for norm in (block.norm1, block.norm2):
            norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    network.project.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(z, y)
    torch.testing.assert_close(seen[0], z[:, :2])
    shared = torch.zeros(5, 0) if y is None else network.embed.weight[y]
    for k, condition in enumerate(seen[1:]):
        piece = z[:, 2:4] if k < 2 else z[:, 4:6]
        torch.testing.assert_close(condition, torch.cat((shared, piece), dim=1))


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_deep_one_gives_everything_to_every_block(num_classes):
    torch.manual_seed(0)
    network = BigGANDeepGenerator(16, latent_dim=6, width=2, num_classes=num_classes, shared_dim=4)
    z, y = torch.randn(5, 6), None if num_classes is None else torch.tensor([0, 2, 1, 1, 0])
    seen = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    network(z, y)
    expected = z if y is None else torch.cat((network.embed.weight[y], z), dim=1)
    assert len(seen) == 4
    for condition in seen:
        torch.testing.assert_close(condition, expected)


def test_spectral_norm_covers_all_but_the_generators_embedding():
    given = {"image_size": 8, "width": 4, "num_classes": 3, "attention": [8]}
    generators = [BigGANGenerator(latent_dim=4, **given), BigGANDeepGenerator(latent_dim=4, **given)]
    discriminators = [BigGANDiscriminator(**given | {"attention": [4]}), BigGANDeepDiscriminator(8, width=4)]
    for network in [*generators, *discriminators]:
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
                assert is_parametrized(layer) == (not (network in generators and name == "embed")), name
                assert not is_parametrized(layer) or layer.parametrizations.weight[0].inner.eps == 1e-6


def test_weights_start_orthogonal():
    torch.manual_seed(0)
    network = BigGANGenerator(8, latent_dim=8, width=4, num_classes=3, spectral_norm=False)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    for layer in layers:
        values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
        torch.testing.assert_close(values, torch.ones_like(values))


def test_discriminators_pool_by_sum():
    torch.manual_seed(0)
    for network in (BigGANDiscriminator(16, width=4), BigGANDeepDiscriminator(16, width=4)):
        network.eval()
        x = torch.randn(3, 3, 16, 16)
        torch.testing.assert_close(network(x).features, network.blocks(x).clamp(min=0).sum(dim=(2, 3)))


@pytest.mark.parametrize("depth", [1, 3])
def test_depth_of_the_deep_ones(depth):
    generator = BigGANDeepGenerator(16, latent_dim=4, width=2, depth=depth)
    discriminator = BigGANDeepDiscriminator(16, width=2, depth=depth)
    x = generator(torch.randn(2, 4))
    assert x.shape == (2, 3, 16, 16)
    assert discriminator(x).scores.shape == (2,)
    assert len(generator.blocks) == 2 * depth
    assert [len(group) for group in list(discriminator.blocks)[1:]] == [depth] * 3


@pytest.mark.parametrize(
    ("network", "given", "words"),
    [
        (BigGANGenerator, {"latent_dim": 81}, "latent_dim is 81: .* 4 equal pieces; the nearest length is 80"),
        (BigGANGenerator, {"image_size": 128, "latent_dim": 80}, "the nearest length is 78"),
        (BigGANGenerator, {"latent_dim": 0}, "the nearest length is 4"),
        (BigGANGenerator, {"image_size": 33}, "image_size 33"),
        (BigGANDiscriminator, {"attention": [64]}, "attention at 64"),
        (BigGANDeepGenerator, {"width": 3}, "width is 3"),
        (BigGANDeepDiscriminator, {"width": 0}, "width is 0"),
        (BigGANDeepDiscriminator, {"attention": [32]}, "attention at 32"),
    ],
)
def test_impossible_settings_are_refused(network, given, words):
    with pytest.raises(UserError, match=words):
        network(**{"width": 2} | given)
