"""The residual encoder and decoder, and the blocks they share with VQGAN's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import MultiHeadSelfAttention, ResidualDecoder, ResidualEncoder
from lightning_gen.networks.autoencoders.self_attention import group_norm
from lightning_gen.networks.autoencoders.stages import Downsample, ResidualBlock, Upsample
from lightning_gen.networks.conditioning import indicators


@pytest.mark.parametrize(
    ("size", "shape", "features"), [(8, (8, 8), 16 * 8), (28, (28, 28), 49 * 16), ((16, 24), (16, 24), 24 * 16)]
)
def test_images_become_features_and_latents_parameters(size, shape, features):
    encoder = ResidualEncoder(size, channels=2, width=4)
    assert encoder(torch.randn(2, 2, *shape)).shape == (2, encoder.num_features) == (2, features)
    assert ResidualDecoder(5, 3, size, channels=2, width=4)(torch.randn(2, 5)).shape == (2, 3, 2, *shape)


@pytest.mark.parametrize("size", [32, 48, 80, 112, 256])
def test_large_images_become_maps_of_four_to_seven_pixels(size):
    with torch.device("meta"):
        encoder, decoder = ResidualEncoder(size, width=4), ResidualDecoder(5, 1, size)
        assert (encoder.num_features // 16) ** 0.5 in range(4, 8)
        assert decoder(encoder(torch.empty(1, 3, size, size))[:, :5]).shape == (1, 1, 3, size, size)


def test_every_weight_learns_in_float64():
    torch.manual_seed(0)
    options = {"image_size": 8, "channels": 1, "width": 4, "depth": 2, "heads": 2, "num_classes": 3}
    encoder = ResidualEncoder(attention=[8, 4], **options).double()
    decoder = ResidualDecoder(encoder.num_features, 2, attention=[4], **options).double()
    y = torch.tensor([0, 1, 2])
    (decoder(encoder(torch.randn(3, 1, 8, 8).double(), y), y) * torch.randn(3, 2, 1, 8, 8)).sum().backward()
    for network in (encoder, decoder):
        for name, weight in network.named_parameters():
            assert weight.grad.abs().sum() > 0, name


def test_attention_follows_every_block_at_the_resolutions_chosen():
    encoder = ResidualEncoder(16, 1, 4, depth=2, attention=[8])
    decoder = ResidualDecoder(5, 1, (16, 24), 1, 4, depth=3, attention=[16, 4])
    assert [type(m) for m in encoder.layers[:8]] == [
        ResidualBlock,
        ResidualBlock,
        Downsample,
        ResidualBlock,
        MultiHeadSelfAttention,
        ResidualBlock,
        MultiHeadSelfAttention,
        Downsample,
    ]
    assert [m.qkv.in_features for m in decoder.modules() if isinstance(m, MultiHeadSelfAttention)] == [16] * 3 + [4] * 3


def test_classes_and_attributes_matter():
    torch.manual_seed(0)
    options = {"image_size": 8, "channels": 1, "width": 4, "num_classes": 3}
    y = torch.tensor([0, 1, 2])
    for network, value in (
        (ResidualEncoder(**options), torch.randn(1, 1, 8, 8)),
        (ResidualDecoder(5, 1, **options), torch.randn(1, 5)),
    ):
        value = value.expand(3, *value.shape[1:])
        found = network(value, y)
        for a, b in ((0, 1), (1, 2), (2, 0)):
            assert (found[a] - found[b]).abs().max() > 1e-3
        torch.testing.assert_close(network(value, indicators(y, 3, torch.float32)), found)


def test_samples_of_a_batch_do_not_interact():
    torch.manual_seed(0)
    encoder, decoder = ResidualEncoder(8, 1, 4, attention=[4]).double(), ResidualDecoder(5, 1, 8, 1, 4).double()
    x, z = torch.randn(3, 1, 8, 8).double(), torch.randn(3, 5).double()
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]))
    torch.testing.assert_close(decoder(z)[:1], decoder(z[:1]))


def test_a_block_is_its_formula():
    torch.manual_seed(0)
    block, x = ResidualBlock(8, 4).double(), torch.randn(2, 8, 3, 5).double()

    def normalised(h, groups):
        parts = h.unflatten(1, (groups, -1)).flatten(2)
        parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return parts.view_as(h)

    def convolved(h, conv):
        return F.conv2d(h, conv.weight, conv.bias, padding=1)

    convs = [m for m in block.branch if isinstance(m, nn.Conv2d)]
    h = normalised(x, 2)
    h = normalised(convolved(h * h.sigmoid(), convs[0]), 1)
    weight, bias = block.shortcut.weight[:, :, 0, 0], block.shortcut.bias
    shortcut = torch.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]
    torch.testing.assert_close(block(x), shortcut + convolved(h * h.sigmoid(), convs[1]))


@pytest.mark.parametrize(
    ("channels", "groups"), [(128, 32), (512, 32), (64, 16), (96, 24), (8, 2), (6, 1), (3, 1), (1, 1)]
)
def test_groups_have_four_channels_where_they_can(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_halving_pads_below_and_to_the_right():
    torch.manual_seed(0)
    layer, x = Downsample(1).double(), torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    found = layer(x)
    assert found.shape == (1, 1, 3, 3)
    for k, seen in ((0, [0, 1, 2]), (1, [2, 3, 4]), (2, [4, 5])):
        (grad,) = torch.autograd.grad(found[0, 0, k, k], x, retain_graph=True)
        assert grad[0, 0].abs().sum(0).nonzero().flatten().tolist() == seen
        assert grad[0, 0].abs().sum(1).nonzero().flatten().tolist() == seen


def test_doubling_repeats_pixels():
    layer, x = Upsample(1), torch.randn(1, 1, 2, 3)
    nn.init.dirac_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
    torch.testing.assert_close(layer(x), x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))


def test_dropout_is_for_training():
    torch.manual_seed(0)
    encoder, x = ResidualEncoder(8, 1, 4, dropout=0.5), torch.randn(1, 1, 8, 8)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 9}, "image_size 9"),
        ({"attention": [5]}, "attention at 5 pixels .* sides 4, 8, 16, 32"),
        ({"attention": [32], "heads": 3}, "heads is 3: it must divide the 64 channels"),
        ({"depth": 0}, "depth is 0"),
        ({"dropout": 1.0}, r"dropout is 1.0: it must be in \[0, 1\)"),
    ],
)
@pytest.mark.parametrize("network", [ResidualEncoder, lambda **options: ResidualDecoder(5, 1, **options)])
def test_what_is_not_possible_is_refused(network, options, words):
    with pytest.raises(UserError, match=words):
        network(**options)
