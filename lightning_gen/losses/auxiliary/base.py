"""What an auxiliary loss is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lightning_gen.networks.base import Judgement


class AuxiliaryLoss(nn.Module, ABC):
    """A term of both players' losses, read off the discriminator's `Judgement`.

    Attributes:
        draws_classes: the classes of generated samples are drawn uniformly in training, and data need not have any.
        takes_attributes: `y` may be (B, K) attributes, too.
    """

    draws_classes: bool = False
    takes_attributes: bool = False

    @abstractmethod
    def discriminator(self, real: Judgement, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """The discriminator's term, a scalar.

        Args:
            real: of (B, …) real samples of the classes `y`.
            fake: of generated ones of the same classes.
            y: (B,) int64 classes, or (B, K) attributes in {0, 1}.
            z: (B, d) latents of the generated samples.
        """

    @abstractmethod
    def generator(self, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """The generator's term, a scalar; arguments as above."""

    @abstractmethod
    def check(self, judged: Judgement) -> str | None:
        """What is missing in a judgement of the discriminator for this loss, in words, or None."""
