"""What adversarial families expect of their two networks."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Judgement(NamedTuple):
    """What a discriminator says of B samples. Scores alone are enough; losses that need more ask for it by name."""

    scores: Tensor
    """(B,) logits: the larger, the more real. (B / m,) of a discriminator that judges m samples together."""
    features: Tensor | None = None
    """(B, F) what the last layer sees."""
    logits: Tensor | None = None
    """(B, K) of the classes; cosines to the classes' proxies where `embedding` is given."""
    embedding: Tensor | None = None
    """(B, d) of unit length."""
    codes: Tensor | None = None
    """(B, c) means of the continuous latent codes, as read off the samples."""


class Generator(nn.Module, ABC):
    """Maps latents to samples.

    Args:
        latent_dim: length of the latent vector, drawn from N(0, I).
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.
    """

    def __init__(self, latent_dim: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents and (B,) classes, or (B, K) attributes, to (B, …) samples."""


class Discriminator(nn.Module, ABC):
    """Scores samples: the larger, the more real.

    Args:
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.

    Attributes:
        packing: how many samples share one score (PacGAN); batches must be multiples of it.
    """

    packing: int = 1

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor | Judgement:
        """Judge (B, …) samples of (B,) classes, or (B, K) attributes: (B,) scores, or a `Judgement` that says more."""

    def stages(self) -> list[nn.Module]:
        """The layers in the order of computation, as one freezes them: children with weights, unless overridden."""
        return [child for child in self.children() if any(True for _ in child.parameters())]


def judgement(found: Tensor | Judgement) -> Judgement:
    """A discriminator's answer in its full form."""
    return found if isinstance(found, Judgement) else Judgement(found)
