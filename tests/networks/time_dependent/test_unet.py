"""The U-Nets, layer by layer against what the papers say."""

import math

import pytest
import torch
from torch.nn.functional import conv2d

from lightning_gen.errors import UserError
from lightning_gen.networks.attention import VisibleAttention
from lightning_gen.networks.time_dependent import DDPMPlusPlus, ModulatedNorm, ShiftedNorm, UNet
from lightning_gen.networks.time_dependent.unet_layers import TimeResidualBlock

TINY = {"image_size": 8, "channels": 2, "width": 8, "multipliers": [1, 2], "num_blocks": 1, "attention": [4]}


def millions(network):
    return sum(weight.numel() for weight in network.parameters()) / 1e6


def moved(network):
    with torch.no_grad():
        for weight in network.double().parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return network


# ---------------------------------------------------------------- by hand


def swish(x):
    return x / (1 + torch.exp(-x))


def normal(norm, x):
    """Group norm: zero mean and unit variance over the positions of each group of 4 channels, as all maps here have."""
    groups = x.reshape(len(x), -1, 4, *x.shape[2:])
    mean, var = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), keepdim=True, correction=0)
    flat = ((groups - mean) / torch.sqrt(var + 1e-6)).reshape(x.shape)
    return flat * norm.weight[:, None, None] + norm.bias[:, None, None]


def convolved(conv, x, **options):
    return conv2d(x, conv.weight, conv.bias, **options)


def row(linear, e):
    return (e @ linear.weight.T + linear.bias)[:, :, None, None]


def attended(layer, x):
    """One head over all positions."""
    rows = normal(layer.norm, x).flatten(2).transpose(1, 2)
    query, key, value = (rows @ layer.qkv.weight.T + layer.qkv.bias).chunk(3, dim=2)
    weights = torch.exp(query @ key.transpose(1, 2) / math.sqrt(query.shape[2]))
    mixed = (weights / weights.sum(2, keepdim=True)) @ value
    return x + (mixed @ layer.out.weight.T + layer.out.bias).transpose(1, 2).reshape(x.shape)


def doubled(x):
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def halved(x):
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def block(layer, x, e, scale=1.0, resampled=lambda x: x):
    h = convolved(layer.conv1, resampled(swish(normal(layer.norm1, x))), padding=1)
    h = convolved(layer.conv2, swish(normal(layer.norm2.norm, h + row(layer.norm2.shift, e))), padding=1)
    x = resampled(x)
    x = (h + (x if layer.shortcut.__class__.__name__ == "Identity" else convolved(layer.shortcut, x))) * scale
    return x if layer.attention is None else attended(layer.attention, x) * scale


def last(network, x):
    return convolved(network.exit[2], swish(normal(network.exit[0], x)), padding=1)


@torch.no_grad()
def test_the_network_of_ddpm_is_that_of_appendix_b():
    torch.manual_seed(0)
    network = moved(UNet(**TINY, dropout=0.0))
    x, t = torch.randn(2, 2, 8, 8).double(), torch.rand(2).double()
    e = network.embedding(t)
    down = network.down
    a = convolved(network.entry, x, padding=1)
    b = block(down[0], a, e)
    wide = torch.nn.functional.pad(b, (0, 1, 0, 1))  # "same" padding of stride 2
    c = convolved(down[1].layer.conv, wide, stride=2)
    d = block(down[2], c, e)
    h = block(network.middle[1], block(network.middle[0], d, e), e)
    low, high = network.up
    for layer, kept in zip(low.blocks, (d, c), strict=True):
        h = block(layer, torch.cat((h, kept), 1), e)
    h = convolved(high.resample.layer.conv, doubled(h), padding=1)
    for layer, kept in zip(high.blocks, (b, a), strict=True):
        h = block(layer, torch.cat((h, kept), 1), e)
    torch.testing.assert_close(network(x, t), last(network, h))


@torch.no_grad()
def test_ddpmpp_resamples_in_its_blocks_and_scales_their_sums():
    torch.manual_seed(0)
    network = moved(DDPMPlusPlus(**TINY, dropout=0.0))
    x, t = torch.randn(2, 2, 8, 8).double(), torch.rand(2).double()
    e, s = network.embedding(t), math.sqrt(0.5)
    down = network.down
    a = convolved(network.entry, x, padding=1)
    b = block(down[0], a, e, s)
    c = block(down[1], b, e, s, halved)
    d = block(down[2], c, e, s)
    h = block(network.middle[1], block(network.middle[0], d, e, s), e, s)
    low, high = network.up
    for layer, kept in zip(low.blocks, (d, c), strict=True):
        h = block(layer, torch.cat((h, kept), 1), e, s)
    h = block(high.resample, h, e, s, doubled)
    for layer, kept in zip(high.blocks, (b, a), strict=True):
        h = block(layer, torch.cat((h, kept), 1), e, s)
    torch.testing.assert_close(network(x, t), last(network, h))


@torch.no_grad()
def test_time_is_added_before_the_norm_or_scales_what_is_normalised():
    torch.manual_seed(0)
    x, e = torch.randn(2, 8, 3, 2).double(), torch.randn(2, 5).double()
    added, scaled = moved(ShiftedNorm(8, 5)), moved(ModulatedNorm(8, 5))
    torch.testing.assert_close(added(x, e), normal(added.norm, x + row(added.shift, e)))
    scale, shift = row(scaled.modulation, e).split(8, dim=1)
    torch.testing.assert_close(scaled(x, e), normal(scaled.norm, x) * (1 + scale) + shift)


# ---------------------------------------------------------------- as published


def test_the_published_networks_have_the_published_sizes():
    with torch.device("meta"):
        assert millions(UNet()) == pytest.approx(35.7, abs=0.05)  # Ho et al., appendix B
        assert millions(UNet(256, multipliers=[1, 1, 2, 2, 4, 4], dropout=0.0)) == pytest.approx(114, abs=0.5)
        assert millions(DDPMPlusPlus()) == pytest.approx(55.7, abs=0.05)  # Karras et al., CIFAR-10
        assert millions(DDPMPlusPlus(64, multipliers=[1, 2, 2, 2])) == pytest.approx(61.8, abs=0.05)  # FFHQ
        assert millions(UNet(8, 1, 32, [1, 2], attention=[4])) < 1.1


@pytest.mark.parametrize(("network", "count"), [(UNet, 5), (DDPMPlusPlus, 3)])
def test_maps_attend_at_chosen_levels_and_in_the_middle(network, count):
    """At a chosen level after both blocks down, and after all three up or the last one; in the middle, once."""
    options = TINY | {"image_size": (8, 16), "multipliers": [1, 1, 1], "num_blocks": 2}
    for chosen in (2, 4, 8):
        model, found = network(**options | {"attention": [chosen]}), []
        layers = [module for module in model.modules() if isinstance(module, VisibleAttention)]
        for layer in layers:
            layer.register_forward_pre_hook(lambda _, inputs, found=found: found.append(tuple(inputs[0].shape[2:])))
        model(torch.randn(1, 2, 8, 16), torch.rand(1))
        assert sorted(found) == sorted([(chosen, 2 * chosen)] * count + [(2, 4)])


def test_the_output_is_nothing_at_the_start():
    torch.manual_seed(0)
    x, t = 3 * torch.randn(2, 2, 8, 8), torch.rand(2)
    assert UNet(**TINY)(x, t).abs().max() == 0
    assert 0 < DDPMPlusPlus(**TINY)(x, t).abs().max() < 1e-3


def test_residual_branches_are_nothing_at_the_start():
    torch.manual_seed(0)
    network, x, e = UNet(**TINY).eval(), torch.randn(2, 16, 4, 4), torch.randn(2, 32)
    assert torch.equal(network.middle[0](x, e), x)  # attention, too
    torch.manual_seed(0)
    network = DDPMPlusPlus(**TINY).eval()
    torch.testing.assert_close(network.middle[0](x, e), x / 2, atol=1e-3, rtol=0)


def test_weights_start_as_published():
    torch.manual_seed(0)
    for network, gain in ((UNet, 1.0), (DDPMPlusPlus, math.sqrt(0.2))):
        model = network(**TINY | {"width": 32})
        conv, attention = model.middle[0].conv1, model.middle[0].attention
        bound = math.sqrt(6 / (9 * 64 + 9 * 64))
        assert 0.98 * bound < conv.weight.abs().max() <= bound
        bound = gain * math.sqrt(6 / (64 + 192))
        assert 0.98 * bound < attention.qkv.weight.abs().max() <= bound
        assert conv.bias.abs().max() == 0


def test_dropout_is_for_training_of_blocks():
    torch.manual_seed(0)
    model = TimeResidualBlock(8, 8, 4, dropout=0.5)
    x, e = torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    assert not torch.equal(model(x, e), model(x, e))
    model.eval()
    assert torch.equal(model(x, e), model(x, e))
    with torch.device("meta"):
        assert UNet().middle[0].dropout.p == 0.1
        assert DDPMPlusPlus().middle[0].dropout.p == 0.13


def test_other_sizes_and_non_square_images():
    for size in ((8, 12), (12, 8)):
        for network in (UNet, DDPMPlusPlus):
            model = network(**TINY | {"image_size": size})
            assert model.sample_shape == (2, *size)
            assert model(torch.randn(1, 2, *size), torch.rand(1)).shape == (1, 2, *size)


@pytest.mark.parametrize("network", [UNet, DDPMPlusPlus])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 7}, "image_size is 7: both sides must be multiples of 2"),
        ({"attention": [16]}, "attention at 16 pixels .* sides 4, 8"),
        ({"multipliers": []}, r"multipliers is \[\]"),
        ({"heads": 3}, "heads is 3: it must divide"),
        ({"heads": 0}, "heads is 0"),
        ({"width": 0}, "width is 0"),
        ({"width": 9}, "width is 9: it must be even"),
        ({"num_blocks": 0}, "num_blocks is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_what_is_not_possible_is_refused_of_unets(network, options, words):
    with pytest.raises(UserError, match=words):
        network(**TINY | options)
