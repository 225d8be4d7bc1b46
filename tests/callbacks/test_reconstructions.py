"""Pictures of originals and reconstructions."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.callbacks import Reconstructions
from lightning_gen.callbacks.reconstructions import reconstruction_picture
from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder

ADAM = partial(torch.optim.Adam, lr=0.01)


def vae(shape):
    torch.manual_seed(0)
    return VAE(MLPEncoder(shape, 8, 1), partial(MLPDecoder, sample_dim=shape, width=8, depth=1), 2, Gaussian(), ADAM)


def test_rows_of_originals_stand_above_their_reconstructions():
    model, data = vae([1, 8, 8]), Digits(image_size=8)
    picture = reconstruction_picture(model, data, "val", 11)
    assert picture.shape == (2 + 4 * 10, 2 + 8 * 10, 3)
    x = data.modality.to_model(data.split("val")[torch.arange(11)]["x"])
    made = model.reconstruct(x)
    for i in range(11):
        for row, shown in ((2 * (i // 8), x[i]), (2 * (i // 8) + 1, made[i])):
            top, left = 2 + row * 10, 2 + i % 8 * 10
            cell = picture[top : top + 8, left : left + 8, 0]
            assert np.array_equal(cell, data.modality.quantise(shown)[0].numpy())
    assert not picture[22:, 2 + 3 * 10 :].any()  # nothing stands for samples that are not there


def test_points_stand_side_by_side(make_ring):
    model, data = vae(2), make_ring()
    picture = reconstruction_picture(model, data, "val", 16)
    assert picture.shape == (512, 1024, 3)
    assert np.array_equal(picture[:, :512], data.modality.grid(data.split("val")[torch.arange(16)]["x"], 1))


def test_pictures_are_written_at_validations(make_trainer, tmp_path):
    data = Digits(image_size=8, batch_size=8)
    callback = Reconstructions(num=5, split="train", every_n_validations=2)
    make_trainer(callback, max_steps=3, val_check_interval=1, limit_val_batches=1).fit(vae([1, 8, 8]), data)
    written = sorted(tmp_path.rglob("reconstructions/*.png"))
    assert [path.name for path in written] == ["step=000001.png", "step=000003.png"]
    pictures = []
    for path in written:
        with Image.open(path) as picture:
            assert picture.size == (2 + 5 * 10, 2 + 2 * 10)
            pictures.append(np.asarray(picture))
    assert np.array_equal(pictures[0][:11], pictures[1][:11])  # the originals
    assert not np.array_equal(pictures[0], pictures[1])


def test_what_cannot_be_drawn_is_refused(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match=r"num is 0"):
        Reconstructions(num=0)
    with pytest.raises(UserError, match="Reconstructions needs a model that can reconstruct samples, which GAN cannot"):
        make_trainer(Reconstructions(), max_steps=1).fit(make_gan(), make_ring())
    with pytest.raises(UserError, match=r"Reconstructions.split is 'tset'.*use any of train, val, test"):
        make_trainer(Reconstructions(split="tset"), max_steps=1).fit(vae(2), make_ring())
