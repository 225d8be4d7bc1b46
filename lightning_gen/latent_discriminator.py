"""Discriminators that judge codes instead of samples."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.model import evaluating
from lightning_gen.networks.base import Discriminator, judgement
from lightning_gen.precision import full

DiscriminatorFactory = Callable[[int], Discriminator]
"""Makes a discriminator of codes from their length; in YAML a class path with its other arguments."""


def scores(discriminator: Discriminator, z: Tensor, y: Tensor | None = None) -> Tensor:
    """(B,) scores of codes (B, d) and classes, in full precision."""
    return full(judgement(discriminator(z, y)).scores)


@torch.no_grad()
def check_scores(discriminator: Discriminator, z: Tensor, y: Tensor | None, key: str = "discriminator") -> None:
    """Raise `UserError` unless a discriminator gives each code its score.

    Args:
        discriminator: is asked in evaluation mode.
        z: (n, d) codes to try.
        y: (n,) classes or (n, K) attributes.
        key: its name among the model's arguments.
    """
    name = type(discriminator).__name__
    try:
        with evaluating(discriminator):
            found = tuple(scores(discriminator, z, y).shape)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"model.init_args.{key} is {name}, which cannot read codes of {z.shape[1]} numbers: use one of vectors,"
            f" such as MLPDiscriminator ({error})"
        ) from error
    if found != (len(z),):
        raise UserError(
            f"model.init_args.{key} is {name}, which gives {len(z)} codes scores of shape {found}: use one that judges"
            " each code by itself, such as MLPDiscriminator"
        )
