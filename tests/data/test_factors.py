import pytest
import torch

from lightning_gen.data import Factors
from lightning_gen.errors import UserError


@pytest.fixture(scope="module")
def data():
    return Factors(image_size=16, num_scales=2, num_orientations=4, num_positions=3)


def images(data, split="train"):
    rows = data.split(split)
    return rows[torch.arange(len(rows))]["x"][:, 0].double() / 255


def test_every_combination_is_there_once(data):
    assert data.factor_sizes == (3, 2, 4, 3, 3)
    both = torch.cat([data.factors(split) for split in ("train", "val")])
    assert len(both.unique(dim=0)) == len(both) == 3 * 2 * 4 * 3 * 3
    assert len(data.split("train")) == len(data.factors("train"))
    assert data.split("val").shape == (1, 16, 16)


def test_no_two_images_are_equal(data):
    x = torch.cat([images(data, split) for split in ("train", "val")])
    assert len(x.flatten(1).unique(dim=0)) == len(x)


def test_figures_are_where_their_factors_say():
    data = Factors(image_size=32, num_scales=1, num_orientations=8, num_positions=5, val_fraction=0)
    x, factors = images(data), data.factors("train")
    place = (2 * torch.arange(32) + 1) / 32 - 1.0
    mass = x.sum((1, 2))
    means = torch.stack(((x * place).sum((1, 2)), (x * place[:, None]).sum((1, 2))), dim=1) / mass[:, None]
    expected = 0.4 * (factors[:, 3:].double() / 2 - 1)
    # a figure's centre of mass lies off its middle, by the same vector turned
    turned = means - expected
    for shape in range(3):
        lengths = turned[factors[:, 0] == shape].norm(dim=1)
        assert lengths.max() < 0.1
        assert lengths.std() < 0.02


def test_a_larger_scale_is_a_larger_figure():
    data = Factors(image_size=32, num_scales=2, num_orientations=1, num_positions=1, val_fraction=0)
    mass = images(data).sum((1, 2)).view(3, 2)
    torch.testing.assert_close(mass[:, 1] / mass[:, 0], torch.full((3,), 4.0).double(), rtol=0.1, atol=0)


def test_nothing_is_cut_off(data):
    x = images(Factors(image_size=16, val_fraction=0, num_positions=2))
    assert x[:, 0].max() < 0.5
    assert x[:, :, -1].max() < 0.5


@pytest.mark.parametrize(("key", "value"), [("image_size", 4), ("num_scales", 0), ("val_fraction", 1.0)])
def test_wrong_settings_are_refused(key, value):
    with pytest.raises(UserError, match=rf"data\.init_args\.{key} is {value}"):
        Factors(**{key: value})
