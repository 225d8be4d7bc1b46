"""Affine maps of images and of colours: each transformation on its own, against numpy and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from lightning_gen.augmentation import colour, geometry

COUNT = 2000
ONE = torch.tensor(1.0)


def images(count=COUNT, size=(6, 6), channels=3):
    torch.manual_seed(1)
    return torch.randn(count, channels, *size, dtype=torch.float64)


def follows(values, distribution):
    assert stats.kstest(values.numpy(), distribution.cdf).pvalue > 1e-4


def test_flips_mirror_half():
    x = images()
    found = geometry.warp(x, geometry.flip(x, ONE))
    mirrored = torch.isclose(found, x.flip(-1)).flatten(1).all(dim=1)
    assert (mirrored ^ (found == x).flatten(1).all(dim=1)).all()
    assert abs(mirrored.double().mean() - 0.5) < 4 * 0.5 / COUNT**0.5


def test_quarter_turns_are_as_frequent_each():
    x = images()
    found = geometry.warp(x, geometry.quarter_turn(x, ONE))
    turned = torch.stack([torch.isclose(found, torch.rot90(x, k, (2, 3))).flatten(1).all(dim=1) for k in range(4)])
    assert (turned.sum(dim=0) == 1).all()
    assert (turned.double().mean(dim=1) - 0.25).abs().max() < 4 * (0.25 * 0.75 / COUNT) ** 0.5


def test_pixel_shifts_reflect_at_the_border():
    x = images(40, size=(16, 8))
    places = geometry.pixel_shift(x, ONE)
    found = geometry.warp(x, places)
    across, down = places[:, 0, 2].int().tolist(), places[:, 1, 2].int().tolist()
    assert (set(across), set(down)) == ({-1, 0, 1}, {-2, -1, 0, 1, 2})  # an eighth of the sides
    for image, after, dx, dy in zip(x, found, across, down, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (2, 2), (1, 1)), mode="reflect")
        torch.testing.assert_close(after, torch.from_numpy(padded[:, 2 + dy : 18 + dy, 1 + dx : 9 + dx]))


def test_warp_agrees_with_scipy_for_any_map():
    x = images(4, size=(7, 5), channels=2)
    places = torch.eye(3, dtype=x.dtype) + 0.4 * torch.randn(4, 3, 3, dtype=x.dtype)
    places[:, 2] = torch.tensor([0.0, 0.0, 1.0])
    row, column = np.mgrid[:7, :5] - np.array([3.0, 2.0])[:, None, None]
    for image, place, found in zip(x.numpy(), places.numpy(), geometry.warp(x, places), strict=True):
        across, down, _ = np.einsum("ij,jhw->ihw", place, np.stack((column, row, np.ones_like(row))))
        for channel in range(2):
            expected = ndimage.map_coordinates(image[channel], (down + 3, across + 2), order=1, mode="mirror")
            np.testing.assert_allclose(found[channel].numpy(), expected, atol=1e-10)


def test_composition_applies_the_first_first():
    x = images(64)
    flip, turn = geometry.flip(x, ONE), geometry.quarter_turn(x, ONE)
    one_by_one = geometry.warp(geometry.warp(x, flip), turn)
    torch.testing.assert_close(geometry.warp(x, geometry.compose(flip, turn)), one_by_one)
    assert not torch.allclose(geometry.warp(x, geometry.compose(turn, flip)), one_by_one)


def test_scales_and_stretches_are_log_normal():
    x = images(size=(2, 2))
    scale, stretch = geometry.scale(x, ONE), geometry.stretch(x, ONE)
    for places, sign in ((scale, 1), (stretch, -1)):
        factor = 1 / places[:, 0, 0]
        expected = torch.diag_embed(torch.stack((1 / factor, factor**-sign, torch.ones_like(factor)), dim=1))
        torch.testing.assert_close(places, expected)
        follows(factor.log2(), stats.norm(0, 0.2))


def test_rotations_are_uniform_and_in_pixels():
    x = images(size=(2, 2))
    places = geometry.rotate(x, ONE)
    angle = torch.atan2(places[:, 1, 0], places[:, 0, 0])
    follows(angle, stats.uniform(-math.pi, 2 * math.pi))
    axis = np.array([0.0, 0.0, 1.0])
    torch.testing.assert_close(
        places, torch.from_numpy(Rotation.from_rotvec(angle[:, None].numpy() * axis).as_matrix())
    )


def test_shifts_are_normal_in_shares_of_the_sides():
    x = images(size=(4, 16))
    places = geometry.shift(x, ONE)
    assert torch.equal(places[:, :, :2], torch.eye(3, dtype=x.dtype)[:, :2].expand(COUNT, 3, 2))
    follows(places[:, 0, 2], stats.norm(0, 2.0))
    follows(places[:, 1, 2], stats.norm(0, 0.5))
    assert abs(np.corrcoef(places[:, 0, 2], places[:, 1, 2])[0, 1]) < 4 / COUNT**0.5


@pytest.mark.parametrize(
    ("draw", "share"),
    [
        (geometry.flip, 0.3 / 2),
        (geometry.quarter_turn, 0.3 * 3 / 4),
        (geometry.pixel_shift, 0.3 * (1 - 1 / 25)),
        (geometry.scale, 0.3),
        (geometry.rotate, 1 - 0.7**0.5),
        (geometry.stretch, 0.3),
        (geometry.shift, 0.3),
        (colour.brightness, 0.3),
        (colour.contrast, 0.3),
        (colour.luma_flip, 0.3 / 2),
        (colour.hue, 0.3),
        (colour.saturation, 0.3),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_is_applied_to_its_share_and_to_none_at_zero(draw, share):
    x = images(size=(20, 20), channels=1)  # whole pixels up to 2.5: -2 … 2 in equal parts
    none, some = draw(x, torch.tensor(0.0)), draw(x, torch.tensor(0.3))
    still = torch.eye(*none.shape[1:], dtype=x.dtype)
    assert (none == still).all()
    changed = (some != still).flatten(1).any(dim=1).double().mean()
    assert abs(changed - share) < 4 * (share * (1 - share) / COUNT) ** 0.5


def test_brightness_and_contrast_act_on_all_colours_alike():
    x = images(size=(2, 2))
    added = colour.recolour(x, colour.brightness(x, ONE)) - x
    torch.testing.assert_close(added, added[:, :1, :1, :1].expand_as(x))
    follows(added[:, 0, 0, 0], stats.norm(0, 0.2))
    factor = colour.recolour(x, colour.contrast(x, ONE)) / x
    torch.testing.assert_close(factor, factor[:, :1, :1, :1].expand_as(x))
    follows(factor[:, 0, 0, 0].log2(), stats.norm(0, 0.5))


def test_luma_flips_negate_grey_and_keep_the_rest():
    x = images(size=(2, 2))
    found = colour.recolour(x, colour.luma_flip(x, ONE))
    grey = x.mean(dim=1, keepdim=True)
    flipped = torch.isclose(found, x - 2 * grey).flatten(1).all(dim=1)
    assert (flipped ^ torch.isclose(found, x).flatten(1).all(dim=1)).all()
    assert abs(flipped.double().mean() - 0.5) < 4 * 0.5 / COUNT**0.5


def test_hues_rotate_about_grey():
    x = images(size=(1, 1))
    linear = colour.hue(x, ONE)[:, :, :3]
    rotations = Rotation.from_matrix(linear.numpy()).as_rotvec()  # of the nearest rotation
    torch.testing.assert_close(linear, torch.from_numpy(Rotation.from_rotvec(rotations).as_matrix()))
    angle = rotations.mean(axis=1) * 3**0.5
    np.testing.assert_allclose(rotations, np.repeat(angle[:, None] / 3**0.5, 3, axis=1), atol=1e-6)
    follows(torch.from_numpy(angle), stats.uniform(-math.pi, 2 * math.pi))


def test_saturation_scales_the_distance_from_grey():
    x = images(size=(2, 2))
    found = colour.recolour(x, colour.saturation(x, ONE))
    grey = x.mean(dim=1, keepdim=True)
    torch.testing.assert_close(found.mean(dim=1, keepdim=True), grey)
    factor = (found - grey) / (x - grey)
    torch.testing.assert_close(factor, factor[:, :1, :1, :1].expand_as(x), rtol=1e-6, atol=1e-8)
    follows(factor[:, 0, 0, 0].log2(), stats.norm(0, 1))


def test_grey_images_have_no_hue():
    x = images(8, channels=1)
    for draw in (colour.hue, colour.saturation):
        torch.testing.assert_close(colour.recolour(x, draw(x, ONE)), x)
    flipped = colour.recolour(x, colour.luma_flip(x, ONE))
    torch.testing.assert_close(flipped.abs(), x.abs())
    assert flipped.shape == x.shape


def test_recolour_is_the_matrix_product():
    x, colours = images(3), torch.randn(3, 3, 4, dtype=torch.float64)
    expected = torch.einsum("bij,bjhw->bihw", colours[:, :, :3], x) + colours[:, :, 3, None, None]
    torch.testing.assert_close(colour.recolour(x, colours), expected)
