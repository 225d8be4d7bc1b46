"""Sizes and widths of residual networks, against the papers' tables."""

import pytest

from lightning_gen.errors import UserError
from lightning_gen.networks.sizes import descend, discriminator_plan, generator_plan, widths


@pytest.mark.parametrize(
    ("size", "base", "maps"),
    [
        (32, (4, 4), [256, 256, 256, 256]),  # Miyato et al., table 3
        (28, (7, 7), [256, 256, 256]),
        (48, (6, 6), [512, 256, 128, 64]),  # table 4
        (64, (4, 4), [1024, 512, 256, 128, 64]),
        (128, (4, 4), [1024, 1024, 512, 256, 128, 64]),  # table 5
        (256, (4, 4), [1024, 1024, 512, 512, 256, 128, 64]),  # Brock et al., table 5
        ((64, 96), (4, 6), [1024, 512, 256, 128, 64]),
    ],
)
def test_generators(size, base, maps):
    found, multipliers = generator_plan(size)
    assert found == base
    assert [64 * multiplier for multiplier in multipliers] == maps


@pytest.mark.parametrize(
    ("size", "maps", "last"),
    [
        (32, [128, 128, 128, 128], (8, 8)),  # Miyato et al., table 3
        (28, [128, 128, 128, 128], (7, 7)),
        (8, [128, 128, 128, 128], (4, 4)),
        (48, [64, 128, 256, 512, 1024], (3, 3)),  # table 4
        (64, [64, 128, 256, 512, 1024], (4, 4)),
        (128, [64, 128, 256, 512, 1024, 1024], (4, 4)),  # table 5
        (256, [64, 128, 256, 512, 512, 1024, 1024], (4, 4)),  # Brock et al., table 5
        (40, [64, 128, 256, 512], (5, 5)),
        ((64, 96), [64, 128, 256, 512, 1024], (4, 6)),
    ],
)
def test_discriminators(size, maps, last):
    halvings, multipliers = discriminator_plan(size)
    assert [64 * multiplier for multiplier in multipliers] == maps
    sizes = descend(size, halvings, len(maps))
    assert sizes[-1] == last
    assert len(set(sizes)) == halvings


@pytest.mark.parametrize("plan", [generator_plan, discriminator_plan])
@pytest.mark.parametrize(("size", "words"), [(33, "nearest such side is 32"), (1024, "must be at most 896")])
def test_impossible_sizes_are_refused(plan, size, words):
    with pytest.raises(UserError, match=f"image_size {size} .*{words}"):
        plan(size)


def test_widths():
    assert widths((16, 8, 1), 48) == [48, 24, 3]
    for wrong in (40, 0, -16):
        with pytest.raises(UserError, match=f"width is {wrong}: .* multiple of 16"):
            widths((16, 8, 1), wrong)
