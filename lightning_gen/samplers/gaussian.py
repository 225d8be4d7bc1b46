"""Latents drawn directly."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator, Generator
from lightning_gen.noise import Noise
from lightning_gen.samplers.base import LatentSampler, dtype_of, standard_normal


class Gaussian(LatentSampler):
    """z ~ N(0, I), as in training."""

    def __call__(self, noise: Noise, y: Tensor | None, generator: Generator, discriminator: Discriminator) -> Tensor:
        """(n, latent_dim) from N(0, I)."""
        return standard_normal(noise, generator)


@runtime_checkable
class TruncatesStyles(Protocol):
    """A generator that draws styles towards their mean by itself (StyleGAN2)."""

    truncation: float
    mean_style: Tensor


class Truncated(LatentSampler):
    """Fewer extreme latents: better samples, less variety.

    z has the density of N(0, 1) on [−ψ, ψ] in each entry, as if entries outside were drawn again (Brock, Donahue,
    Simonyan, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", ICLR 2019, §3.1). A generator of
    styles draws these instead: w̄ + ψ(w − w̄) (Karras, Laine, Aila, CVPR 2019, appendix B).

    Args:
        psi: ψ; above 0, and in [0, 1] for styles. Without styles, ∞ is no truncation.

    Raises:
        UserError: if `psi` is negative, 0 without styles, or above 1 with them.
    """

    def __init__(self, psi: float = 0.7) -> None:
        if not psi >= 0:
            raise UserError(f"Truncated.psi is {psi}: it must be at least 0")
        self.psi = psi

    def __call__(self, noise: Noise, y: Tensor | None, generator: Generator, discriminator: Discriminator) -> Tensor:
        """(n, latent_dim); by the inverse of the distribution function, one number an entry."""
        if isinstance(generator, TruncatesStyles):
            if self.psi > 1:
                raise UserError(f"Truncated.psi is {self.psi}: for a generator of styles it must be at most 1")
            return standard_normal(noise, generator)
        if self.psi == 0:
            raise UserError("Truncated.psi is 0: without styles it must be above 0")
        outside = 0.5 * math.erfc(self.psi / math.sqrt(2.0))
        u = noise.uniform(generator.latent_dim, dtype=torch.float64)
        return torch.special.ndtri(outside + (1 - 2 * outside) * u).to(dtype_of(generator))

    @contextmanager
    def applied(self, generator: Generator) -> Iterator[None]:
        """Let a generator of styles truncate them."""
        if not isinstance(generator, TruncatesStyles):
            yield
            return
        before, generator.truncation = generator.truncation, self.psi
        try:
            yield
        finally:
            generator.truncation = before
