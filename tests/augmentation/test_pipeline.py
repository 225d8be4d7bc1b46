"""The pipeline as a whole: what it leaves alone, in which order it works, and what is left of gradients."""

import pytest
import torch

from lightning_gen.augmentation import ADA, APA, AugmentPipeline, DiffAugment, HorizontalFlip, colour, geometry

NOTHING = {"blit": 0.0, "geometry": 0.0, "color": 0.0, "cutout": 0.0}


def images(count=4, size=(8, 8), channels=3, dtype=torch.float64):
    torch.manual_seed(1)
    return torch.randn(count, channels, *size, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_probability_zero_changes_no_bit(dtype):
    x = images(dtype=dtype)
    assert torch.equal(AugmentPipeline(cutout=1.0)(x), x)


def test_shares_of_zero_change_no_bit():
    x = images()
    assert torch.equal(AugmentPipeline(1.0, **NOTHING)(x), x)


def test_the_order_is_the_papers():
    x = images()
    torch.manual_seed(5)
    found = AugmentPipeline(0.8, geometry=0.5, color=0.5)(x)
    torch.manual_seed(5)
    places = torch.eye(3, dtype=x.dtype).expand(4, 3, 3)
    for name, p in [("flip", 0.8), ("quarter_turn", 0.8), ("pixel_shift", 0.8)] + [
        (name, 0.4) for name in ("scale", "rotate", "stretch", "rotate", "shift")
    ]:
        places = places @ getattr(geometry, name)(x, torch.tensor(p))
    expected = geometry.warp(x, places)
    for name in ("brightness", "contrast", "luma_flip", "hue", "saturation"):
        expected = colour.recolour(expected, getattr(colour, name)(x, torch.tensor(0.4)))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, x)


def test_without_quarter_turns_rows_stay_rows():
    x = torch.arange(8.0)[:, None].expand(200, 3, 8, 8)
    found = AugmentPipeline(1.0, **NOTHING | {"blit": 1.0}, rotate90=False)(x)
    torch.testing.assert_close(found, found[..., :1].expand_as(found))
    turned = AugmentPipeline(1.0, **NOTHING | {"blit": 1.0})(x)
    assert not torch.allclose(turned, turned[..., :1].expand_as(turned))


def test_colours_do_not_look_at_neighbours():
    x = images(6)
    x = x[..., :1, :1].expand(-1, -1, 8, 8)
    found = AugmentPipeline(1.0, **NOTHING | {"color": 1.0})(x)
    torch.testing.assert_close(found, found[..., :1, :1].expand_as(found))
    assert (found != x).flatten(1).any(dim=1).all()


def test_the_share_of_changed_images_is_what_independent_chances_give():
    x = images(3000, size=(2, 2), dtype=torch.float32)
    changed = (AugmentPipeline(0.1, **NOTHING | {"geometry": 1.0})(x) != x).flatten(1).any(dim=1).float().mean()
    share = 1 - 0.9**4  # scale, rotation (either), stretch, shift
    assert abs(changed - share) < 4 * (share * (1 - share) / 3000) ** 0.5


def test_holes_are_rectangles_about_a_centre_anywhere():
    count = 4000
    x = torch.ones(count, 2, 8, 4)
    found = AugmentPipeline(0.5, **NOTHING | {"cutout": 1.0})(x)
    blank = (found == 0)[:, 0].double()
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(found[:, 0], found[:, 1])
    rows, columns = blank.amax(dim=2), blank.amax(dim=1)
    assert torch.equal(blank, rows[:, :, None] * columns[:, None, :])
    places = [(torch.arange(n) + 0.5) / n for n in (8, 4)]
    within = [torch.tensor([min(t + 0.25, 1) - max(t - 0.25, 0) for t in sides]) for sides in places]
    share = 0.5 * torch.outer(*within)  # chance that a centre from U(0, 1) is within a quarter
    assert ((blank.mean(dim=0) - share).abs() < 4 * (share * (1 - share) / count).sqrt()).all()


def test_gradients_are_those_of_finite_differences():
    x = images(3).requires_grad_()
    pipeline = AugmentPipeline(0.9, cutout=0.5)

    def augmented(value):
        torch.manual_seed(0)
        return pipeline(value)

    assert torch.autograd.gradcheck(augmented, x, fast_mode=True)


def test_autocast_does_not_round():
    x, pipeline = images(dtype=torch.float32), AugmentPipeline(1.0)
    torch.manual_seed(0)
    expected = pipeline(x)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pipeline(x), expected)


@pytest.mark.parametrize(
    "augmentation", [HorizontalFlip(), DiffAugment(), AugmentPipeline(0.5, cutout=1.0), ADA(), APA(0.5)]
)
def test_nothing_is_read_back_to_the_host(augmentation):
    """On the meta device there are no values: any branch on one is an error."""
    x = torch.empty(4, 3, 8, 8, device="meta")
    augmentation.to("meta")
    assert augmentation(x).shape == x.shape
    assert augmentation.replace(x, x).shape == x.shape
    augmentation.observe(torch.empty(4, device="meta"))
    augmentation.adjust()


def test_the_probability_travels_in_checkpoints():
    other = AugmentPipeline()
    other.load_state_dict(AugmentPipeline(0.25).state_dict())
    assert other.probability == 0.25
    other.probability.fill_(1.0)
    assert not torch.equal(other(images()), images())
