"""DiffAugment: each way against what it says, for numbers drawn at random."""

import pytest
import torch

from lightning_gen.augmentation import DiffAugment
from lightning_gen.augmentation.diffaugment import brightness, contrast, cutout, saturation, translation

COUNT = 3000


def images(count=COUNT, size=(4, 6), channels=3):
    torch.manual_seed(1)
    return torch.rand(count, channels, *size, dtype=torch.float64) * 2 - 1


def looks_uniform(values, low, high):
    """Within the range, with the mean and the variance of U(low, high) to four standard errors."""
    assert values.min() >= low - 1e-12
    assert values.max() <= high + 1e-12
    unit = (values - low) / (high - low)
    assert abs(unit.mean() - 1 / 2) < 4 / (12 * len(values)) ** 0.5
    assert abs(unit.var() - 1 / 12) < 4 / (180 * len(values)) ** 0.5


def test_brightness_adds_one_number_to_an_image():
    x = images()
    added = brightness(x) - x
    torch.testing.assert_close(added, added[:, :1, :1, :1].expand_as(x))
    looks_uniform(added[:, 0, 0, 0], -0.5, 0.5)


def test_saturation_scales_the_distance_from_grey():
    x = images()
    found = saturation(x)
    torch.testing.assert_close(found.mean(dim=1), x.mean(dim=1))
    factor = (found[:, 0] - found[:, 1]) / (x[:, 0] - x[:, 1])
    torch.testing.assert_close(factor, factor[:, :1, :1].expand_as(factor), rtol=1e-6, atol=1e-8)
    looks_uniform(factor[:, 0, 0], 0.0, 2.0)


def test_contrast_scales_the_distance_from_the_mean():
    x = images()
    found = contrast(x)
    torch.testing.assert_close(found.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)))
    factor = found.std(dim=(1, 2, 3)) / x.std(dim=(1, 2, 3))
    torch.testing.assert_close(found[:, 0, 0, 0] - found[:, 2, 1, 3], factor * (x[:, 0, 0, 0] - x[:, 2, 1, 3]))
    looks_uniform(factor, 0.5, 1.5)


def test_grey_images_have_no_saturation():
    x = images(4, channels=1)
    torch.testing.assert_close(saturation(x), x)


def test_translation_moves_by_whole_pixels_and_fills_with_zeros():
    x = images(size=(16, 8))
    found, padded = translation(x), torch.nn.functional.pad(x, (1, 1, 2, 2))
    shifts = [(down, right) for down in range(5) for right in range(3)]  # up to an eighth of 16 and of 8, each way
    moved = torch.stack([padded[:, :, down : down + 16, right : right + 8] for down, right in shifts])
    matches = (moved == found).flatten(2).all(dim=2)
    assert (matches.sum(dim=0) == 1).all()
    share = matches.double().mean(dim=1)
    assert (share - 1 / 15).abs().max() < 4 * (1 / 15 / COUNT) ** 0.5


def test_cutout_blanks_one_rectangle():
    x = images(2000, size=(8, 6)).abs() + 0.1
    blank = cutout(x) == 0
    assert torch.equal(cutout(x * 0 + 1).unique(), torch.tensor([0.0, 1.0], dtype=x.dtype))
    assert torch.equal(blank, blank[:, :1].expand_as(blank))
    rows, columns = blank[:, 0].any(dim=2), blank[:, 0].any(dim=1)
    assert torch.equal(blank[:, 0], rows[:, :, None] & columns[:, None, :])
    for side, wide, centres in ((rows, 4, range(9)), (columns, 3, range(6))):
        starts = [centre - wide // 2 for centre in centres]
        expected = torch.stack([torch.tensor([s <= k < s + wide for k in range(side.shape[1])]) for s in starts])
        share = (side[:, None] == expected).all(dim=2).float().mean(dim=0)
        assert share.sum() == pytest.approx(1)  # always one of them, and each as often
        assert (share - 1 / len(starts)).abs().max() < 4 * (1 / len(starts) / 2000) ** 0.5


def test_an_empty_policy_changes_nothing():
    x = images(3)
    assert DiffAugment(())(x) is x


def test_every_image_is_changed_by_numbers_of_its_own():
    x = images(1).expand(8, -1, -1, -1)
    found = DiffAugment(("color",))(x)
    assert found.flatten(1).unique(dim=0).shape[0] == 8


def test_ways_are_applied_in_order():
    x = images(5)
    torch.manual_seed(3)
    found = DiffAugment(("cutout", "color"))(x)
    torch.manual_seed(3)
    assert torch.equal(found, contrast(saturation(brightness(cutout(x)))))
    assert not torch.equal(found, x)


def test_gradients_are_those_of_finite_differences():
    x = images(2, size=(8, 8)).requires_grad_()

    def augmented(value):
        torch.manual_seed(0)
        return DiffAugment()(value)

    assert torch.autograd.gradcheck(augmented, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(augmented, x, fast_mode=True)
