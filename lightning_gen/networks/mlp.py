"""Fully connected networks for vectors: 2-D point sets, and whatever needs no structure."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_gen.networks.base import Discriminator, Generator


class MLPGenerator(Generator):
    """A multilayer perceptron from latents to vectors.

    Args:
        sample_dim: length D of a sample.
        latent_dim: length of the latent vector.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_classes: classes enter as one-hot vectors beside the latent.
    """

    def __init__(
        self,
        sample_dim: int = 2,
        latent_dim: int = 16,
        width: int = 128,
        depth: int = 3,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        self.layers = _perceptron(latent_dim + (num_classes or 0), width, depth, sample_dim, nn.ReLU)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes to (B, D) vectors."""
        return self.layers(_with_classes(z, y, self.num_classes))


class MLPDiscriminator(Discriminator):
    """A multilayer perceptron from vectors to scores.

    Args:
        sample_dim: length D of a sample.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_classes: classes enter as one-hot vectors beside the sample.
    """

    def __init__(self, sample_dim: int = 2, width: int = 128, depth: int = 3, num_classes: int | None = None) -> None:
        super().__init__(num_classes)
        self.layers = _perceptron(sample_dim + (num_classes or 0), width, depth, 1, lambda: nn.LeakyReLU(0.2))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, D) vectors and (B,) classes to (B,) scores."""
        return self.layers(_with_classes(x, y, self.num_classes)).squeeze(1)


def _with_classes(x: Tensor, y: Tensor | None, num_classes: int | None) -> Tensor:
    if num_classes is None:
        return x
    assert y is not None
    return torch.cat((x, nn.functional.one_hot(y, num_classes).to(x.dtype)), dim=1)


def _perceptron(
    inputs: int, width: int, depth: int, outputs: int, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [nn.Linear(inputs if k == 0 else width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
