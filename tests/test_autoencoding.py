"""What autoencoders refuse, in one sentence, before torch does."""

from functools import partial

import pytest
import torch

from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.families import VAE, VQVAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.networks.autoencoders import (
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    VQVAEDecoder,
    VQVAEEncoder,
)

ADAM = partial(torch.optim.Adam, lr=0.01)


def vae(encoder_classes=None):
    torch.manual_seed(0)
    decoder = partial(MLPDecoder, sample_dim=2, width=4, depth=1, num_classes=3)
    return VAE(MLPEncoder(2, 4, 1, num_classes=encoder_classes), decoder, 2, Gaussian(), ADAM)


def vqvae(num_classes=3):
    torch.manual_seed(0)
    encoder = VQVAEEncoder(channels=1, width=4, num_blocks=1, num_classes=num_classes)
    decoder = partial(VQVAEDecoder, channels=1, width=4, num_blocks=1, num_classes=3)
    return VQVAE(encoder, decoder, Gaussian(), ADAM, [1, 8, 8])


@pytest.mark.parametrize("verb", ["decode", "reconstruct"])
def test_a_conditional_decoder_needs_the_condition(verb):
    with pytest.raises(UserError, match=f"{verb} needs y, as the model is conditional"):
        getattr(vae(), verb)(torch.zeros(4, 2))


def test_an_encoder_needs_it_if_it_is_conditional_itself():
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    assert torch.equal(vae().encode(x), vae().encode(x, y))
    with pytest.raises(UserError, match="encode needs y"):
        vae(3).encode(x)
    assert vae(3).reconstruct(x, y).shape == (4, 2)


def test_codes_need_it_likewise():
    x = torch.zeros(2, 1, 8, 8)
    with pytest.raises(UserError, match="codes needs y"):
        vqvae().codes(x)
    codes = vqvae(None).codes(x)
    with pytest.raises(UserError, match="decode_codes needs y"):
        vqvae(None).decode_codes(codes)
    with pytest.raises(UserError, match="encode needs y"):
        vqvae().encode(x)


@pytest.mark.parametrize(
    ("sizes", "keys"),
    [
        (
            {"channels": 3},
            "make model.init_args.decoder.init_args.channels (and the encoder's) or data.init_args.channels",
        ),
        (
            {"image_size": 16},
            "model.init_args.decoder.init_args.image_size (and the encoder's) or data.init_args.image",
        ),
    ],
    ids=str,
)
def test_other_sizes_than_the_datas_name_the_networks_that_have_them(sizes, keys):
    sizes = {"channels": 1, "image_size": 8, "width": 4} | sizes
    model = VAE(ConvEncoder(**sizes), partial(ConvDecoder, **sizes), 2, Gaussian(), ADAM)
    with pytest.raises(UserError) as error:
        model.check_data(Digits(image_size=8))
    assert keys in str(error.value)
    assert "generator" not in str(error.value)


def test_a_perceptrons_key_is_its_own():
    sizes = {"sample_dim": [1, 4, 4], "width": 4, "depth": 1}
    model = VAE(MLPEncoder(**sizes), partial(MLPDecoder, **sizes), 2, Gaussian(), ADAM)
    with pytest.raises(UserError, match=r"make model.init_args.decoder.init_args.sample_dim \(and the encoder's\) or"):
        model.check_data(Digits(image_size=8))
