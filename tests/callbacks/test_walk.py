"""Pictures of walks between samples."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.callbacks import LatentWalk
from lightning_gen.callbacks.walk import require_interpolation, walk
from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.networks import DCGANDiscriminator, DCGANGenerator
from lightning_gen.noise import sample_seeds


@pytest.fixture
def images(make_gan):
    options = {"image_size": 8, "channels": 1, "width": 4}
    return make_gan(generator=DCGANGenerator(**options), discriminator=DCGANDiscriminator(**options))


def test_rows_lead_from_one_sample_to_the_next(images):
    data = Digits(image_size=8)
    picture = walk(images, data, rows=3, columns=4, seed=7)
    ends = images.sample(6, seeds=sample_seeds(7, torch.arange(6)))
    cell = picture.shape[1] // 4
    for row in range(3):
        for column, sample in ((0, ends[2 * row]), (3, ends[2 * row + 1])):
            top, left = 2 + row * cell, 2 + column * cell
            shown = picture[top : top + 8, left : left + 8, 0].astype(int)
            assert np.abs(shown - data.modality.quantise(sample)[0].numpy().astype(int)).max() <= 1


def test_pictures_are_written_at_validations(images, make_trainer, tmp_path):
    callback = LatentWalk(rows=2, columns=5)
    make_trainer(callback, max_steps=2, val_check_interval=1, limit_val_batches=1).fit(
        images, Digits(image_size=8, batch_size=8)
    )
    written = sorted(tmp_path.rglob("walks/*.png"))
    assert [path.name for path in written] == ["step=000001.png", "step=000002.png"]
    with Image.open(written[0]) as picture:
        assert picture.size == (2 + 5 * 10, 2 + 2 * 10)


def test_models_that_cannot_walk_are_refused():
    with pytest.raises(UserError, match=r"--walk needs a model that can interpolate, which Linear cannot"):
        require_interpolation(torch.nn.Linear(1, 1), "--walk")


@pytest.mark.parametrize(("options", "words"), [({"rows": 0}, "rows is 0"), ({"columns": 1}, "columns is 1")])
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        LatentWalk(**options)
