"""What metrics ask of classes before they compare samples of a class with data of that class."""

from dataclasses import replace

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import Features


def is_class(y: Tensor | None) -> bool:
    """Whether labels are one integer a sample: classes, and neither attributes nor anything else."""
    return y is not None and y.ndim == 1 and not y.is_floating_point()


def without_attributes(features: Features) -> Features:
    """Features whose `y` is classes or None: to metrics, attributes are as good as no classes."""
    return features if features.y is None or is_class(features.y) else replace(features, y=None)


def classes_of(name: str, whose: str, y: Tensor | None, num_classes: int | None = None) -> Tensor:
    """The classes, which must be there.

    Args:
        name: of the metric, for the sentence.
        whose: "data" or "samples".
        y: (n,) int64 classes ≥ 0, or None where there are none.
        num_classes: how many classes the data have, where that is known.

    Returns:
        `y`.

    Raises:
        UserError: if there are no classes, or one that the data do not have.
    """
    if y is None:
        right = "use labelled data" if whose == "data" else "measure a model with num_classes"
        raise UserError(f"{name} works on classes, one a sample, but the {whose} have none: {right}")
    if num_classes is not None and len(y) and int(y.max()) >= num_classes:
        raise UserError(
            f"{name} met {whose} of class {int(y.max())}, but the data have only classes 0 to {num_classes - 1}: "
            "measure with the data that the model was trained on"
        )
    return y


def require_two(name: str, whose: str, counts: Tensor) -> None:
    """Refuse classes without a spread.

    Args:
        name: of the metric, for the sentence.
        whose: "data" or "samples".
        counts: (K,) how many there are of each class.

    Raises:
        UserError: if there are fewer than 2 of a class.
    """
    if bool((counts < 2).any()):
        first = int((counts < 2).nonzero()[0])
        more = "more data" if whose == "data" else "a larger num_samples"
        raise UserError(
            f"{name} needs at least 2 of the {whose} in each class, but class {first} has {int(counts[first])}: "
            f"use {more}"
        )
