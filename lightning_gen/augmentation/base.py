"""What an augmentation is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Augmentation(nn.Module, ABC):
    """Changes samples before the discriminator sees them, real and generated alike, differentiably.

    Random numbers come from torch's global generator (seeded by step and rank). What adapts itself keeps its state in
    floating-point buffers, which travel in checkpoints and are averaged over processes at every update.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Change (B, …) samples; each by numbers of its own. Gradients flow to `x`."""

    def replace(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B, …) what stands for real samples, some of them generated ones where that is the method (APA)."""
        return real

    def observe(self, real_scores: Tensor) -> None:
        """Take note, without a host copy, of (B,) scores of real samples in an update of the discriminator."""

    def adjust(self) -> None:
        """Adapt, after an update of the discriminator, when processes have averaged what they observed."""

    def check(self, shape: tuple[int, ...]) -> str | None:
        """What is wrong with samples of `shape` (without the batch) for this augmentation, in words, or None."""
        return None
