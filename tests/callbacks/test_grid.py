"""Pictures while training: the same noise, classes by row."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.callbacks import EMA, LastCheckpoint, SampleGrid
from lightning_gen.callbacks.grid import grid
from lightning_gen.data import Digits
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel
from lightning_gen.networks import MLPDiscriminator, MLPGenerator


class Flat(GenerativeModel):
    """Images of one level: that of their class, or of their noise."""

    def training_step(self, batch, batch_idx):
        raise NotImplementedError

    def configure_optimizers(self):
        raise NotImplementedError

    def generate(self, noise, y):
        level = noise.uniform() if y is None else y * (20 / 255)
        return (2 * level - 1)[:, None, None, None].expand(-1, 1, 8, 8)


def cells(picture, rows, columns):
    """The middle pixel of each 8×8 image and its 2 pixels of margin."""
    assert picture.shape == (10 * rows + 2, 10 * columns + 2, 3)
    return picture[5::10, 5::10, 0][:rows, :columns]


def test_the_same_weights_give_the_same_picture():
    first, again, other = (grid(Flat(), Digits(image_size=8), 9, seed) for seed in (0, 0, 1))
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("num", "rows", "columns"), [(9, 3, 3), (16, 4, 4), (5, 2, 3), (1, 1, 1)])
def test_unconditional_samples_fill_a_square(num, rows, columns):
    cells(grid(Flat(), Digits(image_size=8), num, 0), rows, columns)


@pytest.mark.parametrize(("num", "columns"), [(64, 6), (10, 1), (3, 1)])
def test_classes_stand_one_a_row(num, columns):
    shown = cells(grid(Flat(num_classes=10), Digits(image_size=8), num, 0), 10, columns)
    for label, row in enumerate(shown):
        assert row.tolist() == [20 * label] * columns


def test_pictures_are_named_by_step_and_follow_the_average(make_gan, make_ring, make_trainer, tmp_path):
    gan, ema = make_gan(), EMA(decay=0.5)
    options = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    make_trainer(ema, SampleGrid(9, every_n_validations=2), max_steps=6, **options).fit(gan, make_ring())
    files = sorted((tmp_path / "grids").iterdir())
    assert [file.name for file in files] == ["step=000002.png", "step=000006.png"]
    shown = np.asarray(Image.open(files[1]))
    assert not np.array_equal(shown, grid(gan, make_ring(), 9, 0))
    ema.on_validation_start(None, gan)
    assert np.array_equal(shown, grid(gan, make_ring(), 9, 0))


def test_a_resumed_run_keeps_the_rhythm(make_gan, make_ring, make_trainer, tmp_path):
    options = {"limit_val_batches": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    make_trainer(SampleGrid(4, 2), LastCheckpoint(), max_steps=3, **options).fit(make_gan(), make_ring())
    trainer = make_trainer(SampleGrid(4, 2), max_steps=6, **options)
    trainer.fit(make_gan(), make_ring(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert sorted(file.name for file in (tmp_path / "grids").iterdir()) == ["step=000002.png", "step=000006.png"]


def test_points_of_classes_are_one_picture(make_gan, make_ring):
    gan = make_gan(generator=MLPGenerator(num_classes=8), discriminator=MLPDiscriminator(num_classes=8))
    assert grid(gan, make_ring(), 64, 0).shape == (512, 512, 3)


def test_no_picture_before_training(tmp_path):
    trainer = SimpleNamespace(sanity_checking=True)
    SampleGrid().on_validation_epoch_end(trainer, torch.nn.Module())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [{"num": 0}, {"num": -1}, {"every_n_validations": 0}])
def test_counts_below_one_are_refused(arguments):
    with pytest.raises(UserError, match=r"SampleGrid\.\w+ is"):
        SampleGrid(**arguments)


def test_chosen_classes_are_shown_as_chosen():
    model = Flat(num_classes=10)
    picture = grid(model, Digits(image_size=8), 4, 0, torch.tensor([7, 1, 7, 1]))
    assert cells(picture, 2, 2).tolist() == [[140, 20], [140, 20]]
