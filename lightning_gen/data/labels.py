"""What labels must be before a model sees them."""

from torch import Tensor

from lightning_gen.errors import UserError


def check_labels(whose: str, y: Tensor | None, num_classes: int | None) -> None:
    """Check labels against the number of classes or attributes that a source tells models.

    Args:
        whose: source and split, for the sentence.
        y: (N,) classes, (N, A) attributes, or None.
        num_classes: K or A; None is not checked against.

    Raises:
        UserError: a class is outside [0, K), or attributes are not A columns of 0 and 1.
    """
    if y is None or num_classes is None or not len(y):
        return
    low, high = float(y.min()), float(y.max())
    if y.ndim == 1 and (low < 0 or high >= num_classes):
        raise UserError(
            f"{whose} has label {int(low if low < 0 else high)}, but num_classes is {num_classes}: "
            f"labels must be from 0 to {num_classes - 1}"
        )
    if y.ndim > 1 and (y.shape[1:] != (num_classes,) or not bool(((y == 0) | (y == 1)).all())):
        raise UserError(
            f"{whose} has attributes of shape {tuple(y.shape)} from {low:g} to {high:g}, but "
            f"num_classes is {num_classes}: they must be {num_classes} columns of 0 and 1"
        )
