"""Fully connected networks for vectors: 2-D point sets, and whatever needs no structure, small images included."""

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn

from lightning_gen.networks.base import Discriminator, Generator, Judgement
from lightning_gen.networks.conditioning import indicators


class MLPGenerator(Generator):
    """A multilayer perceptron from latents to vectors, or to images as in the first GANs.

    Goodfellow et al., "Generative Adversarial Nets", NIPS 2014; with classes, Mirza, Osindero, arXiv:1411.1784.

    Args:
        sample_dim: length D of a sample, or its shape, such as [1, 28, 28] of grey images.
        latent_dim: length of the latent vector.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_classes: classes enter as one-hot vectors beside the latent, attributes as they are.
        bounded: a last tanh keeps samples in [-1, 1], as images are.
    """

    def __init__(
        self,
        sample_dim: int | list[int] = 2,
        latent_dim: int = 16,
        width: int = 128,
        depth: int = 3,
        num_classes: int | None = None,
        bounded: bool = False,
    ) -> None:
        super().__init__(latent_dim, num_classes)
        self.sample_shape = shape_of(sample_dim)
        hidden = perceptron(latent_dim + (num_classes or 0), width, depth, nn.ReLU)
        self.layers = nn.Sequential(*hidden, nn.Linear(width, prod(self.sample_shape)))
        self.squash = nn.Tanh() if bounded else nn.Identity()

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, D) vectors or (B, …) samples."""
        flat = self.squash(self.layers(with_classes(z, y, self.num_classes)))
        return flat.unflatten(1, self.sample_shape)


class MLPDiscriminator(Discriminator):
    """A multilayer perceptron from vectors, or flattened images, to scores.

    Args:
        sample_dim: length D of a sample, or its shape, such as [1, 28, 28] of grey images.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_classes: classes enter as one-hot vectors beside the sample, attributes as they are.
    """

    def __init__(
        self, sample_dim: int | list[int] = 2, width: int = 128, depth: int = 3, num_classes: int | None = None
    ) -> None:
        super().__init__(num_classes)
        inputs = prod(shape_of(sample_dim)) + (num_classes or 0)
        self.layers = nn.Sequential(*perceptron(inputs, width, depth, lambda: nn.LeakyReLU(0.2)))
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, …) samples of (B,) classes, or (B, K) attributes: scores, and the last hidden layer as features."""
        features = self.layers(with_classes(x.flatten(1), y, self.num_classes))
        return Judgement(self.score(features).squeeze(1), features)

    def stages(self) -> list[nn.Module]:
        """The linear maps in order."""
        return [layer for layer in self.modules() if isinstance(layer, nn.Linear)]


def shape_of(sample_dim: int | list[int]) -> tuple[int, ...]:
    """The shape of a sample that may be given by its length alone."""
    return (sample_dim,) if isinstance(sample_dim, int) else tuple(sample_dim)


def with_classes(x: Tensor, y: Tensor | None, num_classes: int | None) -> Tensor:
    """(B, D) vectors with the indicators of (B,) classes, or (B, K) attributes, beside them where there are any."""
    if num_classes is None:
        return x
    assert y is not None
    return torch.cat((x, indicators(y, num_classes, x.dtype)), dim=1)


def perceptron(inputs: int, width: int, depth: int, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """`depth` linear maps to `width` units, an activation after each."""
    layers: list[nn.Module] = []
    for k in range(depth):
        layers += [nn.Linear(inputs if k == 0 else width, width), activation()]
    return layers
