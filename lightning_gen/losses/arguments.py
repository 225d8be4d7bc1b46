"""Checks of the numbers that a user gives to a loss or a penalty."""

from lightning_gen.errors import UserError


def check_at_least(part: object, bound: float, **values: float) -> None:
    """Refuse values below a bound, or not a number.

    Args:
        part: whose arguments they are; its class is named.
        bound: the smallest value that is right.
        **values: by the names of the arguments.

    Raises:
        UserError: that names the first wrong one.
    """
    for key, value in values.items():
        if not value >= bound:
            raise UserError(f"{type(part).__name__}.{key} is {value}: it must be at least {bound:g}")


def check_above(part: object, bound: float, **values: float) -> None:
    """Refuse values at a bound or below, or not a number; arguments as above."""
    for key, value in values.items():
        if not value > bound:
            raise UserError(f"{type(part).__name__}.{key} is {value}: it must be above {bound:g}")


def check_dropout(part: object, dropout: float) -> None:
    """Refuse a rate of dropout that is not in [0, 1); `part` as above."""
    if not 0 <= dropout < 1:
        raise UserError(f"{type(part).__name__}.dropout is {dropout}: it must be in [0, 1)")
