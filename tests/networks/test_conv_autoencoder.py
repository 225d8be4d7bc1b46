"""The DCGAN-like encoder and decoder."""

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import ConvDecoder, ConvEncoder
from lightning_gen.networks.autoencoders.stages import ClassConv2d
from lightning_gen.networks.conditioning import indicators

SIZES = [(8, (8, 8), 4 * 4), (28, (28, 28), 7 * 7), ((16, 24), (16, 24), 4 * 6)]


@pytest.mark.parametrize(("size", "shape", "positions"), SIZES)
def test_images_become_features_and_latents_parameters(size, shape, positions):
    encoder = ConvEncoder(size, channels=2, width=3)
    features = encoder(torch.randn(2, 2, *shape))
    halvings = {4 * 4: 1, 7 * 7: 2, 4 * 6: 2}[positions]
    assert features.shape == (2, encoder.num_features) == (2, 3 * 2 ** (halvings - 1) * positions)
    assert ConvDecoder(5, 3, size, channels=2, width=3)(torch.randn(2, 5)).shape == (2, 3, 2, *shape)


def test_large_images_do_not_make_maps_wider_than_eight_times():
    with torch.device("meta"):
        encoder, decoder = ConvEncoder(256, width=8), ConvDecoder(5, 1, 256, width=8)
        assert encoder.num_features == 64 * 4 * 4
        assert decoder(encoder(torch.empty(1, 3, 256, 256))[:, :5]).shape == (1, 1, 3, 256, 256)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_weight_learns(batch_norm):
    torch.manual_seed(0)
    encoder = ConvEncoder(16, 1, 4, batch_norm, num_classes=3)
    decoder = ConvDecoder(encoder.num_features, 2, 16, 1, 4, batch_norm, num_classes=3)
    y = torch.tensor([0, 1, 2, 0])
    (decoder(encoder(torch.randn(4, 1, 16, 16), y), y) * torch.randn(4, 2, 1, 16, 16)).sum().backward()
    for network in (encoder, decoder):
        for name, weight in network.named_parameters():
            assert weight.grad.abs().sum() > 0, name


def test_parameters_of_one_entry_are_not_those_of_another_channel():
    decoder = ConvDecoder(5, 3, 8, channels=2, width=3)
    nn.init.zeros_(decoder.layers[-1].weight)
    decoder.layers[-1].bias.data = torch.arange(6.0)  # P is the slower index
    assert torch.equal(decoder(torch.randn(1, 5))[0, :, :, 0, 0], torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))


@pytest.mark.parametrize("y", [torch.tensor([2, 0]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])])
def test_classes_and_attributes_matter(y):
    torch.manual_seed(0)
    encoder, decoder = ConvEncoder(8, 1, 4, num_classes=3).eval(), ConvDecoder(5, 1, 8, 1, 4, num_classes=3).eval()
    others = torch.tensor([1, 1])
    for network, value in ((encoder, torch.randn(1, 1, 8, 8)), (decoder, torch.randn(1, 5))):
        value = value.expand(2, *value.shape[1:])
        found = network(value, y)
        assert (found[0] - found[1]).abs().max() > 1e-3
        assert (found - network(value, others)).abs().amax(dim=tuple(range(1, found.ndim))).min() > 1e-3
        if not y.is_floating_point():
            torch.testing.assert_close(network(value, indicators(y, 3, torch.float32)), found)


def test_a_class_is_as_good_as_constant_maps_beside_the_image():
    torch.manual_seed(0)
    layer = ClassConv2d(2, 5, 3, num_classes=4, stride=2).double()
    beside = nn.Conv2d(2 + 4, 5, 3, stride=2).double()
    taps = (layer.embed.weight.T / 9)[:, :, None, None].expand(-1, -1, 3, 3)
    beside.weight.data, beside.bias.data = torch.cat((layer.conv.weight, taps), dim=1).data, layer.conv.bias.data
    x, y = torch.randn(3, 2, 7, 7).double(), torch.tensor([3, 0, 2])
    maps = nn.functional.one_hot(y, 4).double()[:, :, None, None].expand(-1, -1, 7, 7)
    torch.testing.assert_close(layer(x, y), beside(torch.cat((x, maps), dim=1)))


def test_without_batch_norm_samples_do_not_interact():
    torch.manual_seed(0)
    x = torch.randn(3, 1, 8, 8).double()
    for batch_norm, together in ((False, False), (True, True)):
        encoder = ConvEncoder(16, 1, 4, batch_norm).double()
        x = torch.randn(3, 1, 16, 16).double()
        assert torch.allclose(encoder(x)[:1], encoder(x[:1])) is not together


@pytest.mark.parametrize(
    ("options", "words"), [({"image_size": 9}, "image_size 9"), ({"width": 0}, r"ConvEncoder.width is 0.*at least 1")]
)
def test_what_is_not_possible_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        ConvEncoder(**options)
