"""The package zuko, imported where it is used."""

from typing import Any

from torch.distributions import Distribution


def zuko() -> Any:
    """The package, with torch's validation of distributions as it was: zuko ends it for everybody when imported."""
    validates = Distribution._validate_args
    import zuko

    Distribution.set_default_validate_args(validates)
    return zuko
