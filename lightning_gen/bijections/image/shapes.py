"""Checks of the shapes that flows of images are made for."""

from collections.abc import Sequence

from lightning_gen.errors import UserError


def image_shape(part: object, sample_shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) of samples; `part` is named where they are no images.

    Raises:
        UserError: if they are not.
    """
    if len(sample_shape) != 3:
        raise UserError(
            f"{type(part).__name__} is for images (C, H, W), but model.init_args.sample_shape is {list(sample_shape)}:"
            " use a flow of vectors"
        )
    channels, height, width = sample_shape
    return channels, height, width


def check_halvings(part: object, key: str, value: int, halvings: int, sample_shape: Sequence[int]) -> None:
    """Refuse images that cannot be halved so often.

    Args:
        part: whose argument it is; its class is named.
        key: of the argument.
        value: of the argument.
        halvings: how often it halves both sides.
        sample_shape: (C, H, W).

    Raises:
        UserError: if a side is no multiple of 2 to that power; it tells the largest value that is right.
    """
    _, height, width = image_shape(part, sample_shape)
    if height % 2**halvings == 0 and width % 2**halvings == 0:
        return
    most = halvings
    while height % 2**most or width % 2**most:
        most -= 1
    fitting = value - halvings + most
    remedy = f", or {key} {fitting}" if fitting >= 1 else ""
    raise UserError(
        f"{type(part).__name__}.{key} is {value}, which halves images {halvings} times, but {height}×{width} pixels"
        f" can be halved {most} times: use images whose sides are multiples of {2**halvings}{remedy}"
    )
