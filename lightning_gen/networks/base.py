"""What adversarial families expect of their two networks."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Generator(nn.Module, ABC):
    """Maps latents to samples.

    Args:
        latent_dim: length of the latent vector, drawn from N(0, I).
        num_classes: number of classes it is conditioned on; None for an unconditional network.
    """

    def __init__(self, latent_dim: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes to (B, …) samples."""


class Discriminator(nn.Module, ABC):
    """Scores samples: the larger, the more real.

    Args:
        num_classes: number of classes it is conditioned on; None for an unconditional network.
    """

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, …) samples and (B,) classes to (B,) scores (logits, not probabilities)."""
