"""Data with a number of levels: how values become levels and back, and how a level is drawn."""

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods.base import seen

_TOLERANCE = 0.01
"""How far a value may be from a level, in units of a byte's step."""

_FEWEST_ROWS = 64
"""Of fewer samples it cannot be said which levels they do not have."""

_MOST_FEWER = 64
"""More levels than this are too close together to tell from bytes."""

_REMEDY = (
    "set its levels to those of data (256 of images stored as bytes), or use a likelihood without levels, such as"
    " Gaussian"
)


class Levels:
    """The values 2k/(L − 1) − 1, k = 0 … L − 1.

    Args:
        count: L, ≥ 2.
        asker: the class whose argument it is, for messages.
        subject: what messages call it; "the likelihood …" unless given.
        remedy: what they say would be right.

    Raises:
        UserError: if there are fewer than two.
    """

    def __init__(self, count: int, asker: str, subject: str | None = None, remedy: str = _REMEDY) -> None:
        if count < 2:
            raise UserError(f"{asker}.levels is {count}: it must be at least 2, and 256 for images stored as bytes")
        self.count = count
        self.subject = subject or f"the likelihood {asker}"
        self.remedy = remedy

    def index(self, x: Tensor) -> Tensor:
        """The level k nearest to each value, in the type of `x`."""
        return ((x + 1) * ((self.count - 1) / 2)).round().clamp(0, self.count - 1)

    def value(self, k: Tensor) -> Tensor:
        """What levels stand for."""
        return k * (2 / (self.count - 1)) - 1

    def check(self, x: Tensor) -> None:
        """Raise `UserError` unless every value is one of the levels, exactly or rounded to a byte.

        Images are stored as bytes, so that sixteenths, say, are not exact: they may be half a byte's step off. Of many
        samples it is also refused that they have but some of the levels, evenly spaced: 17, say, of 256.
        """
        wrong = self._off(x, self.count)
        if bool(wrong.any()):
            raise UserError(
                f"{self.subject} has {self.count} levels from -1 to 1, but data has {seen(x)}, among them"
                f" {x[wrong][0]:.4g}: {self.remedy}"
            )
        if len(x) >= _FEWEST_ROWS and (fewer := self._fewer(x.unique())) is not None:
            raise UserError(
                f"{self.subject} has {self.count} levels from -1 to 1, but data has only {fewer}: set its levels to"
                f" {fewer}"
            )

    def _fewer(self, values: Tensor) -> int | None:
        """The number of levels that values (V,) have, where it is smaller than the present one."""
        if not 1 < len(values) <= _MOST_FEWER:
            return None
        fitting = (
            count
            for count in range(len(values), min(_MOST_FEWER + 1, self.count))
            if not bool(self._off(values, count).any())
        )
        return next(fitting, None)

    def _off(self, x: Tensor, count: int) -> Tensor:
        """Which values are none of so many levels."""
        level = ((x + 1) * ((count - 1) / 2)).round().clamp(0, count - 1) * (255 / (count - 1))
        byte = (x + 1) * 127.5
        off = (byte - level).abs()
        rounded = (off <= 0.5 + _TOLERANCE) & ((byte - byte.round()).abs() <= _TOLERANCE)
        return ~(rounded | (off <= _TOLERANCE))
