"""How convolutional networks climb from a small map to the image and back, and how wide they are on the way."""

from collections.abc import Sequence

from lightning_gen.errors import UserError

_BASES = range(4, 8)

# Channels relative to the full resolution's, by the number of doublings (Brock et al., ICLR 2019, appendix B; at 48
# pixels Miyato et al., ICLR 2018, table 4). Images of up to 32 pixels keep one width throughout.
_SMALL = 32
_GENERATOR = {
    3: (8, 4, 2, 1),
    4: (16, 8, 4, 2, 1),
    5: (16, 16, 8, 4, 2, 1),
    6: (16, 16, 8, 8, 4, 2, 1),
    7: (16, 16, 8, 8, 4, 2, 1, 1),
}
_DISCRIMINATOR = {
    3: (1, 2, 4, 8),
    4: (1, 2, 4, 8, 16),
    5: (1, 2, 4, 8, 16, 16),
    6: (1, 2, 4, 8, 8, 16, 16),
    7: (1, 1, 2, 4, 8, 8, 16, 16),
}


def size_plan(image_size: int | tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Split an image size into a base and the number of doublings.

    Args:
        image_size: side, or (height, width), in pixels.

    Returns:
        `(base height, base width), doublings`, with the smaller base from 4 to 7 and at least one doubling.

    Raises:
        UserError: if there is no such split; the sentence names the nearest size that has one.
    """
    height, width = _pair(image_size)
    for doublings in range(1, 12):
        factor = 2**doublings
        if height % factor == width % factor == 0 and min(height, width) // factor in _BASES:
            return (height // factor, width // factor), doublings
    sizes = sorted(base * 2**k for base in _BASES for k in range(1, 10))
    near = min(sizes, key=lambda size: abs(size - min(height, width)))
    raise UserError(
        f"image_size {image_size} does not suit this network: both sides must be a base times the same power of two,"
        f" the smaller base being 4 to 7; the nearest such side is {near}"
    )


def generator_plan(image_size: int | tuple[int, int]) -> tuple[tuple[int, int], tuple[int, ...]]:
    """The way up of a residual generator.

    Args:
        image_size: side, or (height, width), in pixels.

    Returns:
        The base's (height, width), and the channels of the base and after each doubling, relative to `width`:
        4 throughout up to 32 pixels, falling from 8 or 16 to 1 above.

    Raises:
        UserError: as `size_plan`, and beyond 7 doublings.
    """
    base, doublings = _at_most(7, image_size)
    if min(_pair(image_size)) <= _SMALL:
        return base, (4,) * (doublings + 1)
    return base, _GENERATOR[doublings]


def discriminator_plan(image_size: int | tuple[int, int]) -> tuple[int, tuple[int, ...]]:
    """The way down of a residual discriminator.

    It halves while both sides are even and above 4 pixels: 64 → 4, 48 → 3. Up to 32 pixels it halves at most twice.

    Args:
        image_size: side, or (height, width), in pixels.

    Returns:
        The number of halvings, and the channels after each block relative to `width`: 2 in all four blocks up to
        32 pixels; above, rising from 1 to 8 or 16, with one more block that keeps the size.

    Raises:
        UserError: as `size_plan`, and beyond 7 doublings.
    """
    _, doublings = _at_most(7, image_size)
    height, width = _pair(image_size)
    if min(height, width) <= _SMALL:
        return min(2, doublings), (2,) * 4
    halvings = 0
    while height % 2 == width % 2 == 0 and min(height, width) > 4 and halvings < 7:
        height, width, halvings = height // 2, width // 2, halvings + 1
    return halvings, _DISCRIMINATOR[halvings]


def widths(multipliers: Sequence[int], widest: int) -> list[int]:
    """Channels in proportion to the multipliers, the largest being `widest`.

    Raises:
        UserError: if they are not whole numbers.
    """
    most = max(multipliers)
    ratio = most // min(multipliers)
    if widest < 1 or widest % ratio:
        raise UserError(f"width is {widest}: at this image size it must be a positive multiple of {ratio}")
    return [widest * multiplier // most for multiplier in multipliers]


def descend(image_size: int | tuple[int, int], halvings: int, blocks: int) -> list[tuple[int, int]]:
    """(height, width) after each of some blocks, of which the first `halvings` halve the map."""
    height, width = _pair(image_size)
    return [(height >> min(k, halvings), width >> min(k, halvings)) for k in range(1, blocks + 1)]


def _at_most(most: int, image_size: int | tuple[int, int]) -> tuple[tuple[int, int], int]:
    base, doublings = size_plan(image_size)
    if doublings > most:
        raise UserError(
            f"image_size {image_size} is too large for this network: the smaller side must be at most {7 * 2**most}"
        )
    return base, doublings


def _pair(image_size: int | tuple[int, int]) -> tuple[int, int]:
    return (image_size, image_size) if isinstance(image_size, int) else image_size
