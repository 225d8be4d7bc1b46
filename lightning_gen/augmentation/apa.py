"""Adaptive pseudo augmentation (Jiang, Dai, Wu, Loy, "Deceive D: Adaptive Pseudo Augmentation for GAN Training with
Limited Data", NeurIPS 2021).
"""

import torch
from torch import Tensor

from lightning_gen.augmentation.adaptive import Adaptation
from lightning_gen.augmentation.base import Augmentation
from lightning_gen.augmentation.images import happens
from lightning_gen.errors import UserError


class APA(Augmentation):
    """Passes some generated samples off as real, more of them the surer the discriminator is of real ones (§3.2).

    Args:
        probability: share of real samples that is replaced at first, in [0, 1]; a buffer, which travels in checkpoints.
        target: the mean sign of the scores of real samples that is aimed at, in [-1, 1].
        interval: updates of the discriminator from one move to the next, ≥ 1.
        speed_kimg: thousands of real samples, over all processes, in which the probability moves by 1, > 0.

    Raises:
        UserError: if an argument is out of its range.
    """

    probability: Tensor

    def __init__(
        self, probability: float = 0.0, target: float = 0.6, interval: int = 4, speed_kimg: float = 500.0
    ) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise UserError(f"APA.probability is {probability}: it must be from 0 to 1")
        self.register_buffer("probability", torch.tensor(float(probability)))
        self.adaptation = Adaptation("APA", target, interval, speed_kimg)

    def forward(self, x: Tensor) -> Tensor:
        """Leave samples as they are."""
        return x

    def replace(self, real: Tensor, fake: Tensor) -> Tensor:
        """(B, …) real samples, each replaced by the generated one beside it, without gradient, with probability p."""
        chosen = happens(len(real), self.probability, real)
        return torch.where(chosen.view(-1, *[1] * (real.ndim - 1)), fake.detach().to(real.dtype), real)

    def observe(self, real_scores: Tensor) -> None:
        """Gather the signs of (B,) scores."""
        self.adaptation.observe(real_scores)

    def adjust(self) -> None:
        """Move the probability after every `interval` updates."""
        self.adaptation.adjust(self.probability)
