"""VQ-VAE's encoder and decoder."""

import pytest
import torch
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import VQVAEDecoder, VQVAEEncoder
from lightning_gen.networks.autoencoders.vqvae import VQVAEBlock
from lightning_gen.networks.conditioning import indicators


@pytest.mark.parametrize("count", [1, 2, 3])
def test_images_become_maps_and_maps_parameters(count):
    encoder, decoder = VQVAEEncoder(5, 2, 4, count), VQVAEDecoder(5, 3, 2, 4, count)
    h, w = 3, 2
    assert encoder(torch.randn(2, 2, h << count, w << count)).shape == (2, 5, h, w)
    assert decoder(torch.randn(2, 5, h, w)).shape == (2, 3, 2, h << count, w << count)


def test_the_receptive_field_is_that_of_the_layers():
    torch.manual_seed(0)
    encoder = VQVAEEncoder(1, 1, 16, 2, num_blocks=1).double()
    x = torch.randn(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(encoder(x)[0, 0, 8, 8], x)
    for side in (0, 1):
        seen = grad[0, 0].abs().sum(side).nonzero().flatten()
        # two 4×4 of stride 2, then two 3×3 on maps of stride 4: 4 + 3·2 + 2·4 + 2·4, centred on 4·8 … 4·8 + 3
        assert (seen.min(), seen.max()) == (33 - 12, 33 - 12 + 26 - 1)


def test_a_block_is_its_formula_and_leaves_its_input_alone():
    torch.manual_seed(0)
    block, x = VQVAEBlock(4, 3).double(), torch.randn(2, 4, 5, 5).double()
    kept = x.clone()
    h = F.conv2d(x.clamp(min=0), block.conv1.weight, block.conv1.bias, padding=1).clamp(min=0)
    out = torch.einsum("oc,bchw->bohw", block.conv2.weight[:, :, 0, 0], h) + block.conv2.bias[:, None, None]
    torch.testing.assert_close(block(x), kept + out)
    assert torch.equal(x, kept)


def test_every_weight_learns():
    torch.manual_seed(0)
    encoder, decoder = VQVAEEncoder(5, 1, 8, num_classes=3), VQVAEDecoder(5, 2, 1, 8, block_width=4, num_classes=3)
    y = torch.tensor([0, 1, 2])
    (decoder(encoder(torch.randn(3, 1, 16, 16), y), y) * torch.randn(3, 2, 1, 16, 16)).sum().backward()
    for network in (encoder, decoder):
        for name, weight in network.named_parameters():
            assert weight.grad.abs().sum() > 0, name


def test_classes_and_attributes_matter():
    torch.manual_seed(0)
    y = torch.tensor([0, 1, 2])
    encoder, decoder = VQVAEEncoder(5, 1, 8, num_classes=3), VQVAEDecoder(5, 1, 1, 8, num_classes=3)
    for network, shape in ((encoder, (1, 8, 8)), (decoder, (5, 2, 2))):
        found = network(value := torch.randn(1, *shape).expand(3, *shape), y)
        for a, b in ((0, 1), (1, 2), (2, 0)):
            assert (found[a] - found[b]).abs().max() > 1e-4
        torch.testing.assert_close(network(value, indicators(y, 3, torch.float32)), found)


def test_parameters_of_one_entry_are_not_those_of_another_channel_and_the_last_layer_is_the_last():
    decoder = VQVAEDecoder(5, 3, 2, 4)
    with torch.no_grad():
        decoder.last_layer.zero_()
        decoder.last.bias.copy_(torch.arange(6.0))  # P is the slower index
    assert torch.equal(decoder(torch.randn(1, 5, 1, 1))[0, :, :, 3, 3], torch.arange(6.0).view(3, 2))


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        (VQVAEEncoder, {"num_downsamplings": 0}, "num_downsamplings is 0: it must be at least 1"),
        (VQVAEEncoder, {"block_width": 0}, "block_width is 0"),
        (lambda **options: VQVAEDecoder(5, 1, **options), {"num_upsamplings": 0}, "num_upsamplings is 0"),
        (
            lambda **options: VQVAEDecoder(5, 1, **options),
            {"num_blocks": -1},
            "num_blocks is -1: it must be at least 0",
        ),
    ],
)
def test_what_is_not_possible_is_refused(network, options, words):
    with pytest.raises(UserError, match=words):
        network(**options)


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(RuntimeError, match="VQVAEEncoder got maps of 8×6 pixels: both sides must be multiples of 4"):
        VQVAEEncoder(5, 1, 4)(torch.randn(1, 1, 8, 6))
