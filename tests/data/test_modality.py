import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.data import Images, Points
from lightning_gen.errors import UserError

LEVELS = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)


def test_every_level_survives_the_round_trip():
    x = Images().to_model(LEVELS)
    assert x.dtype == torch.float32
    assert x.min() == -1
    assert x.max() == 1
    assert torch.equal(Images().quantise(x), LEVELS)
    assert torch.equal(Images().quantise(LEVELS), LEVELS)


def test_quantise_clamps_and_rounds_to_nearest():
    x = torch.tensor([-7.0, -1.001, 1.001, 7.0, (127.4 / 127.5) - 1, (127.6 / 127.5) - 1])
    assert Images().quantise(x).tolist() == [0, 0, 255, 255, 127, 128]


def test_quantise_of_half_precision_is_done_in_single():
    x = torch.linspace(-1, 1, 999).bfloat16()
    assert torch.equal(Images().quantise(x), Images().quantise(x.float()))


def test_to_model_leaves_its_argument_alone():
    stored = LEVELS.clone()
    Images().to_model(stored)
    assert torch.equal(stored, LEVELS)
    points = torch.randn(4, 2)
    assert torch.equal(Points().quantise(Points().to_model(points)), points)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_grid_shows_every_pixel_as_it_is(channels):
    stored = torch.randint(0, 256, (5, channels, 4, 6), dtype=torch.uint8)
    picture = Images().grid(Images().to_model(stored), columns=3)
    assert picture.shape == (2 * (4 + 2) + 2, 3 * (6 + 2) + 2, 3)
    assert picture.dtype == np.uint8
    expected = stored[:, :3] if channels >= 3 else stored.double().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    covered = np.zeros(picture.shape[:2], dtype=bool)
    for i in range(5):
        top, left = 2 + (i // 3) * 6, 2 + (i % 3) * 8
        cell = picture[top : top + 4, left : left + 6].astype(float)
        assert np.abs(cell - expected[i].permute(1, 2, 0).double().numpy()).max() <= 0.5
        covered[top : top + 4, left : left + 6] = True
    assert not picture[~covered].any()


def test_grid_does_not_stretch_contrast():
    picture = Images().grid(torch.full((1, 1, 2, 2), 0.0), columns=8)
    assert picture.shape == (6, 6, 3)
    assert picture[2:4, 2:4].tolist() == [[[128] * 3] * 2] * 2


@pytest.mark.parametrize("x", [torch.zeros(0, 1, 2, 2), torch.zeros(2, 2)])
def test_grid_refuses_what_are_no_images(x):
    with pytest.raises(ValueError, match="grid needs images"):
        Images().grid(x, 4)


def test_scatter_has_fixed_equal_axes():
    picture = Points(limit=2.0).grid(torch.tensor([[1.0, -1.0]]), columns=8)
    assert picture.shape == (512, 512, 3)
    rows, columns = np.nonzero(picture.min(-1) < 255)
    # x = 1 lies at three quarters of the width, y = -1 at three quarters of the height from above
    assert abs(columns.mean() - 383.5) < 2
    assert abs(rows.mean() - 383.5) < 2
    outside = Points(limit=2.0).grid(torch.tensor([[3.0, 0.0]]), columns=8)
    assert outside.min() == 255


@pytest.mark.parametrize("x", [torch.zeros(0, 2), torch.zeros(3, 1), torch.zeros(3, 2, 2)])
def test_scatter_refuses_what_are_no_points(x):
    with pytest.raises(ValueError, match="scatter plot needs points"):
        Points().grid(x, 4)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_images_written_by_two_processes_read_back_equal(tmp_path, channels, mode):
    stored = torch.randint(0, 256, (5, channels, 4, 6), dtype=torch.uint8)
    index = torch.arange(5)
    Images().prepare(tmp_path / "new", 5, (channels, 4, 6))
    for rank in range(2):
        x = Images().to_model(stored[rank::2])
        Images().write(tmp_path / "new", x, index[rank::2], 5)
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [f"{i:06d}.png" for i in range(5)]
    for i in range(5):
        image = Image.open(tmp_path / "new" / f"{i:06d}.png")
        assert image.mode == mode
        pixels = np.asarray(image).reshape(4, 6, channels).transpose(2, 0, 1)
        assert np.array_equal(pixels, stored[i].numpy())


def test_names_have_room_for_every_index(tmp_path):
    Images().prepare(tmp_path, 10_000_000, (1, 2, 2))
    Images().write(tmp_path, torch.zeros(1, 1, 2, 2), torch.tensor([12]), 10_000_000)
    assert (tmp_path / "0000012.png").is_file()


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4, 4), (2,)])
def test_images_without_a_png_are_refused_before_any_is_written(tmp_path, shape):
    with pytest.raises(UserError, match="1 or 3 channels"):
        Images().prepare(tmp_path / "new", 3, shape)


def test_points_written_by_two_processes_read_back_equal(tmp_path):
    points, index = torch.randn(7, 3), torch.randperm(7)
    Points().prepare(tmp_path / "new", 7, (3,))
    for rank in range(2):
        Points().write(tmp_path / "new", points[index[rank::2]], index[rank::2], 7)
    Points().write(tmp_path / "new", points[:0], index[:0], 7)
    read = np.load(tmp_path / "new" / "points.npy")
    assert read.dtype == np.float32
    assert np.array_equal(read, points.numpy())


def test_points_must_be_vectors(tmp_path):
    with pytest.raises(UserError, match="one dimension"):
        Points().prepare(tmp_path, 3, (1, 2, 2))


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_outside_the_set_is_refused(tmp_path, index):
    with pytest.raises(ValueError, match="index must be in"):
        Images().write(tmp_path, torch.zeros(1, 1, 2, 2), torch.tensor([index]), 3)
    Points().prepare(tmp_path, 3, (2,))
    with pytest.raises(ValueError, match="index must be in"):
        Points().write(tmp_path, torch.zeros(1, 2), torch.tensor([index]), 3)


def test_images_of_another_set_are_not_mixed_with_new_ones(tmp_path):
    Images().prepare(tmp_path, 3, (1, 4, 4))
    Images().write(tmp_path, torch.zeros(3, 1, 4, 4), torch.arange(3), 3)
    Images().prepare(tmp_path, 3, (1, 4, 4))
    with pytest.raises(UserError, match=r"000002\.png"):
        Images().prepare(tmp_path, 2, (1, 4, 4))
