"""Latents refined by what the discriminator has learnt."""

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Discriminator, Generator, judgement
from lightning_gen.networks.minibatch import MinibatchStd
from lightning_gen.noise import Noise
from lightning_gen.samplers.base import LatentSampler, standard_normal


class Langevin(LatentSampler):
    """Discriminator-driven latent sampling (Che et al., "Your GAN is Secretly an Energy-based Model", NeurIPS 2020).

    Where D's score is the log-ratio of data to samples, samples of z with density ∝ p(z) exp D(G(z)) have the data's
    distribution (theorem 1). They are sought by Langevin steps on the energy (eq. 3 and algorithm 1)

        E(z) = ‖z‖²/2 − D(G(z)),    z ← z − ε/2 ∇E(z) + √ε n,   n ~ N(0, noise²·I)

    Args:
        steps: number of steps, ≥ 0; each costs a pass forth and back through both networks.
        step_size: ε, above 0.
        noise: standard deviation of n, ≥ 0; the paper's algorithm has 1, its experiments on images 0.1.

    Raises:
        UserError: if an argument is out of its range; before training, if the discriminator compares samples.
    """

    def __init__(self, steps: int = 100, step_size: float = 0.01, noise: float = 1.0) -> None:
        for name, value, good, right in (
            ("steps", steps, steps >= 0, "at least 0"),
            ("step_size", step_size, step_size > 0, "above 0"),
            ("noise", noise, noise >= 0, "at least 0"),
        ):
            if not good:
                raise UserError(f"Langevin.{name} is {value}: it must be {right}")
        self.steps, self.step_size, self.noise = steps, step_size, noise

    def __call__(self, noise: Noise, y: Tensor | None, generator: Generator, discriminator: Discriminator) -> Tensor:
        """(n, latent_dim) after `steps` steps from N(0, I)."""
        if discriminator.packing != 1 or any(isinstance(module, MinibatchStd) for module in discriminator.modules()):
            raise UserError(
                f"the sampler Langevin needs scores of single samples, but {type(discriminator).__name__} compares"
                " several: leave the sampler out, or the packing or the minibatch standard deviation"
            )
        with torch.inference_mode(False):  # in which validation runs, and nothing can be differentiated
            y = None if y is None else y.clone()
            z = standard_normal(noise, generator).clone()
            for _ in range(self.steps):
                drift = -self.step_size / 2 * self._gradient(z, y, generator, discriminator)
                z = z + drift + self.step_size**0.5 * self.noise * standard_normal(noise, generator)
        return z.detach()

    @staticmethod
    def _gradient(z: Tensor, y: Tensor | None, generator: Generator, discriminator: Discriminator) -> Tensor:
        """∇E at each of (n, d) latents."""
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            energy = z.square().sum() / 2 - judgement(discriminator(generator(z, y), y)).scores.sum()
            return torch.autograd.grad(energy, z)[0]
