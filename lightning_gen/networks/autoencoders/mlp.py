"""Fully connected encoders and decoders: vectors, and small images."""

from collections.abc import Callable
from math import prod

from torch import Tensor, nn

from lightning_gen.networks.autoencoders.base import Decoder, Encoder
from lightning_gen.networks.mlp import perceptron, shape_of, with_classes


class MLPEncoder(Encoder):
    """A multilayer perceptron from vectors, or flattened images, to features.

    Args:
        sample_dim: length D of a sample, or its shape, such as [1, 28, 28] of grey images.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_classes: classes enter as one-hot vectors beside the sample, attributes as they are.
        activation: makes what follows each hidden layer, such as `torch.nn.Tanh`.
    """

    def __init__(
        self,
        sample_dim: int | list[int] = 2,
        width: int = 256,
        depth: int = 2,
        num_classes: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(width, num_classes)
        inputs = prod(shape_of(sample_dim)) + (num_classes or 0)
        self.layers = nn.Sequential(*perceptron(inputs, width, depth, activation))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, …) samples to (B, width) features, the last hidden layer."""
        return self.layers(with_classes(x.flatten(1), y, self.num_classes))


class MLPDecoder(Decoder):
    """A multilayer perceptron from latents to the parameters of a likelihood.

    Args:
        latent_dim: length d of a latent; the model's.
        num_parameters: numbers P for each entry of a sample; the likelihood's.
        sample_dim: length D of a sample, or its shape, such as [1, 28, 28] of grey images.
        width: units of each hidden layer.
        depth: number of hidden layers, ≥ 1.
        num_classes: classes enter as one-hot vectors beside the latent, attributes as they are.
        activation: makes what follows each hidden layer, such as `torch.nn.Tanh`.
    """

    def __init__(
        self,
        latent_dim: int,
        num_parameters: int,
        sample_dim: int | list[int] = 2,
        width: int = 256,
        depth: int = 2,
        num_classes: int | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(latent_dim, num_parameters, num_classes)
        self.out_shape = (num_parameters, *shape_of(sample_dim))
        hidden = perceptron(latent_dim + (num_classes or 0), width, depth, activation)
        self.layers = nn.Sequential(*hidden, nn.Linear(width, prod(self.out_shape)))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, d) latents to (B, P, …) parameters."""
        return self.layers(with_classes(z, y, self.num_classes)).unflatten(1, self.out_shape)
