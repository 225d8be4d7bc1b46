"""`AutoencodingModel`: what families share that go from samples to latents and back."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_gen.conditions import check_given
from lightning_gen.latents import slerp
from lightning_gen.model import GenerativeModel, evaluating
from lightning_gen.noise import Noise


class AutoencodingModel(GenerativeModel, ABC):
    """Encodes, decodes, reconstructs, samples and interpolates; a family writes three maps.

    The public methods work in evaluation mode and without gradients (see `lightning_gen.abilities`).
    """

    @abstractmethod
    def latents_of(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The latents (n, …) that stand for samples (n, …), without noise."""

    @abstractmethod
    def samples_of(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The samples (n, …) in the form of `x` that belong to latents (n, …)."""

    @abstractmethod
    def draw_latents(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Latents (n, …) from the prior, one a stream of random numbers."""

    def between(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        """Latents (n, …) on the way from `a` to `b`, at t (n,) of it: on a great circle unless overridden."""
        return slerp(a.flatten(1), b.flatten(1), t).view_as(a)

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Decoded draws from the prior."""
        return self.samples_of(self.draw_latents(noise, y), y)

    @property
    def encodes_condition(self) -> bool:
        """Whether `latents_of` needs `y`: of conditional models, unless overridden."""
        return self.num_classes is not None

    @property
    def decodes_condition(self) -> bool:
        """Whether `samples_of` needs `y`: of conditional models, unless overridden."""
        return self.num_classes is not None

    @property
    def sized_parts(self) -> tuple[str, ...]:
        """The decoder's and the encoder's."""
        return ("decoder", "encoder")

    @torch.no_grad()
    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.Reconstructs`.

        Raises:
            UserError: if the encoder is conditional and `y` is None.
        """
        if self.encodes_condition:
            check_given(y, "encode")
        with evaluating(self):
            return self.latents_of(x, y)

    @torch.no_grad()
    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.Reconstructs`.

        Raises:
            UserError: if the decoder is conditional and `y` is None.
        """
        if self.decodes_condition:
            check_given(y, "decode")
        with evaluating(self):
            return self.samples_of(z, y)

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.Reconstructs`.

        Raises:
            UserError: if the decoder is conditional and `y` is None.
        """
        if self.decodes_condition:
            check_given(y, "reconstruct")
        return self.decode(self.encode(x, y), y)

    @torch.no_grad()
    def interpolate(self, seeds_a: Tensor, seeds_b: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.Interpolates`."""
        a, b = Noise(seeds_a, self.device), Noise(seeds_b, self.device)
        y = self.condition.draw(a, y)
        self.condition.draw(b, y)  # not used, but drawn before the latent, as in `sample`
        with evaluating(self):
            return self.samples_of(self.between(self.draw_latents(a, y), self.draw_latents(b, y), t), y)
