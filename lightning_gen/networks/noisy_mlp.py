"""The networks of semi-supervised MNIST (Salimans et al., NeurIPS 2016; `train_mnist_feature_matching.py`)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lightning_gen.networks.base import Discriminator, Generator, Judgement


class NoisyMLPDiscriminator(Discriminator):
    """A perceptron with Gaussian noise before every layer in training, and weights of fixed norm in all but the last.

    Args:
        sample_dim: length of a sample, or its shape, which is flattened.
        widths: units of each hidden layer.
        num_classes: K, of the logits.
        input_noise: standard deviation of the noise on the sample, in its units; the paper's 0.3 is of pixels in
            [0, 1], so 0.6 in [-1, 1].
        hidden_noise: the same on each hidden layer.
    """

    def __init__(
        self,
        sample_dim: int | list[int],
        num_classes: int,
        widths: Sequence[int] = (1000, 500, 250, 250, 250),
        input_noise: float = 0.6,
        hidden_noise: float = 0.5,
    ) -> None:
        super().__init__(num_classes)
        size = sample_dim if isinstance(sample_dim, int) else math.prod(sample_dim)
        self.hidden = nn.ModuleList(_normalised(a, b, trained=False) for a, b in pairwise((size, *widths)))
        self.logits = _normalised(widths[-1], num_classes, trained=True)
        self.input_noise, self.hidden_noise = input_noise, hidden_noise

    def forward(self, x: Tensor, y: Tensor | None = None) -> Judgement:
        """(B, …) samples to logits (B, K), their logsumexp as scores (B,), and the last hidden layer (B, F)."""
        h = self._noisy(x.flatten(1), self.input_noise)
        for layer in self.hidden[:-1]:
            h = self._noisy(layer(h).relu(), self.hidden_noise)
        features = self.hidden[-1](h).relu()  # without noise: they are matched by their means
        logits = self.logits(self._noisy(features, self.hidden_noise))
        return Judgement(logits.logsumexp(dim=1), features, logits)

    def stages(self) -> list[nn.Module]:
        """The layers."""
        return [*self.hidden, self.logits]

    def _noisy(self, h: Tensor, std: float) -> Tensor:
        return h + std * torch.randn_like(h) if self.training else h


class SoftplusMLPGenerator(Generator):
    """Two hidden layers of softplus units with batch norm, and images in [-1, 1].

    Args:
        sample_dim: length of a sample, or its shape.
        latent_dim: length of the latent vector.
        width: units of each hidden layer.
    """

    def __init__(self, sample_dim: int | list[int], latent_dim: int = 100, width: int = 500) -> None:
        super().__init__(latent_dim)
        self.shape = [sample_dim] if isinstance(sample_dim, int) else list(sample_dim)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width, bias=False),
            nn.BatchNorm1d(width),
            nn.Softplus(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.Softplus(),
            _normalised(width, math.prod(self.shape), trained=True),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """(B, latent_dim) to (B, *sample_dim) in [-1, 1]."""
        return self.layers(z).unflatten(1, self.shape)


def _normalised(inputs: int, outputs: int, trained: bool) -> nn.Module:
    """A linear layer whose rows have a norm of their own, √2 at first (as for He's initialisation), trained or not."""
    layer = weight_norm(nn.Linear(inputs, outputs))
    nn.init.zeros_(layer.bias)
    norm = layer.parametrizations.weight.original0
    nn.init.constant_(norm, math.sqrt(2.0))
    norm.requires_grad_(trained)
    return layer
