"""VQGAN's encoder and decoder."""

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import MultiHeadSelfAttention, VQGANDecoder, VQGANEncoder
from lightning_gen.networks.conditioning import indicators

TINY = {"image_size": 16, "channels": 2, "width": 4, "multipliers": [1, 2, 2], "depth": 1, "attention": [8]}


def test_images_become_maps_and_maps_parameters():
    encoder, decoder = VQGANEncoder(5, **TINY), VQGANDecoder(5, 3, **TINY)
    assert encoder(torch.randn(2, 2, 16, 16)).shape == (2, 5, 4, 4)
    assert encoder(torch.randn(2, 2, 8, 12)).shape == (2, 5, 2, 3)  # fully convolutional
    assert decoder(torch.randn(2, 5, 4, 4)).shape == (2, 3, 2, 16, 16)
    wide = TINY | {"image_size": (16, 24)}
    assert VQGANDecoder(5, 3, **wide)(VQGANEncoder(5, **wide)(torch.randn(2, 2, 16, 24))).shape == (2, 3, 2, 16, 24)


def test_the_published_network_has_the_published_size():
    with torch.device("meta"):
        encoder, decoder = VQGANEncoder(), VQGANDecoder(256, 1)
        assert decoder(encoder(torch.empty(1, 3, 256, 256))).shape == (1, 1, 3, 256, 256)
    sizes = [sum(weight.numel() for weight in network.parameters()) / 1e6 for network in (encoder, decoder)]
    assert sizes == pytest.approx([29.3, 42.4], abs=0.05)  # as the authors' program reports for f = 16


def test_attention_is_at_the_chosen_levels_and_in_the_middle():
    options = TINY | {"depth": 2}
    for network, count in ((VQGANEncoder(5, **options), 2 + 1), (VQGANDecoder(5, 1, **options), 3 + 1)):
        layers = [m for m in network.modules() if isinstance(m, MultiHeadSelfAttention)]
        assert len(layers) == count
        found = []
        for layer in layers:
            layer.register_forward_pre_hook(lambda _, inputs, found=found: found.append(inputs[0].shape[2]))
        network(torch.randn(1, *((2, 16, 16) if isinstance(network, VQGANEncoder) else (5, 4, 4))))
        assert sorted(found) == [4] + [8] * (count - 1)


def test_every_weight_learns():
    torch.manual_seed(0)
    encoder, decoder = VQGANEncoder(5, num_classes=3, **TINY), VQGANDecoder(5, 2, num_classes=3, **TINY)
    y = torch.tensor([0, 1, 2])
    (decoder(encoder(torch.randn(3, 2, 16, 16), y), y) * torch.randn(3, 2, 2, 16, 16)).sum().backward()
    for network in (encoder, decoder):
        for name, weight in network.named_parameters():
            assert weight.grad.abs().sum() > 0, name


def test_classes_and_attributes_matter():
    torch.manual_seed(0)
    y = torch.tensor([0, 1, 2])
    for network, shape in (
        (VQGANEncoder(5, num_classes=3, **TINY), (2, 16, 16)),
        (VQGANDecoder(5, 1, num_classes=3, **TINY), (5, 4, 4)),
    ):
        found = network(value := torch.randn(1, *shape).expand(3, *shape), y)
        for a, b in ((0, 1), (1, 2), (2, 0)):
            assert (found[a] - found[b]).abs().max() > 1e-3
        torch.testing.assert_close(network(value, indicators(y, 3, torch.float32)), found)


def test_the_output_is_linear_in_the_last_layer():
    torch.manual_seed(0)
    decoder, z = VQGANDecoder(5, 2, **TINY), torch.randn(1, 5, 4, 4)
    assert any(decoder.last_layer is weight for weight in decoder.parameters())
    with torch.no_grad():
        before = decoder(z)
        decoder.last_layer.mul_(3)
        after = decoder(z)
        decoder.last_layer.zero_()
        constant = decoder(z)
    torch.testing.assert_close(after - constant, 3 * (before - constant))
    assert (before - constant).abs().max() > 0.1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 18}, "image_size is 18: both sides must be multiples of 4"),
        ({"image_size": (16, 2)}, "multiples of 4"),
        ({"attention": [2]}, "attention at 2 pixels .* sides 4, 8, 16"),
        ({"multipliers": []}, r"multipliers is \[\]"),
        ({"heads": 3}, "heads is 3: it must divide"),
        ({"width": 0}, "width is 0"),
    ],
)
@pytest.mark.parametrize("network", [VQGANEncoder, lambda **options: VQGANDecoder(5, 1, **options)])
def test_what_is_not_possible_is_refused(network, options, words):
    with pytest.raises(UserError, match=words):
        network(**TINY | options)


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(RuntimeError, match="VQGANEncoder got maps of 14×16 pixels: both sides must be multiples of 4"):
        VQGANEncoder(5, **TINY)(torch.randn(1, 2, 14, 16))
