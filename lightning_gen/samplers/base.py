"""What samplers are: how a trained model is drawn from, which may be changed after its training."""

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from lightning_gen.networks.base import Discriminator, Generator
from lightning_gen.noise import Noise


class Sampler:
    """One of several ways to draw from a trained model; a model takes those of one kind, see `HasSampler`."""


@runtime_checkable
class HasSampler(Protocol):
    """A model that is drawn from by a sampler one may exchange, as the option `--sampler` does."""

    sampler: Sampler

    sampler_kind: ClassVar[type[Sampler]]
    """The base class of those that it takes."""

    def check_sampler(self, sampler: Sampler) -> None:
        """Raise `UserError` if the model cannot be drawn from so."""


class LatentSampler(Sampler):
    """Draws latents for samples, each from its own stream of noise; training always draws from N(0, I)."""

    @abstractmethod
    def __call__(self, noise: Noise, y: Tensor | None, generator: Generator, discriminator: Discriminator) -> Tensor:
        """Latents in the form that `generator` takes.

        Args:
            noise: one stream a sample.
            y: (n,) classes, (n, K) attributes, or None.
            generator: in evaluation mode.
            discriminator: in evaluation mode.

        Returns:
            (n, latent_dim), in the dtype of the generator's weights.

        Raises:
            UserError: if these networks cannot be sampled so; before training, too.
        """

    def applied(self, generator: Generator) -> AbstractContextManager[None]:
        """What holds while `generator` maps the latents to samples."""
        return nullcontext()


def standard_normal(noise: Noise, generator: Generator) -> Tensor:
    """(n, latent_dim) latents from N(0, I), in the dtype of the generator's weights."""
    return noise.normal(generator.latent_dim, dtype=dtype_of(generator))


def dtype_of(generator: Generator) -> torch.dtype:
    """Of the generator's weights."""
    return next(generator.parameters()).dtype
