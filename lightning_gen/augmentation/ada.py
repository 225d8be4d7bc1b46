"""Adaptive discriminator augmentation (Karras, Aittala, Hellsten, Laine, Lehtinen, Aila, "Training Generative
Adversarial Networks with Limited Data", NeurIPS 2020).
"""

from torch import Tensor

from lightning_gen.augmentation.adaptive import Adaptation
from lightning_gen.augmentation.base import Augmentation
from lightning_gen.augmentation.pipeline import AugmentPipeline


class ADA(Augmentation):
    """A pipeline whose probability rises while the discriminator is too sure of real images, and falls otherwise.

    Args:
        pipeline: what is applied; its probability is where this starts, and travels in checkpoints. Null for all of the
            paper's transformations from probability 0.
        target: the mean sign of the scores of real images that is aimed at, in [-1, 1].
        interval: updates of the discriminator from one move to the next, ≥ 1.
        speed_kimg: thousands of real images, over all processes, in which the probability moves by 1, > 0.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        pipeline: AugmentPipeline | None = None,
        target: float = 0.6,
        interval: int = 4,
        speed_kimg: float = 500.0,
    ) -> None:
        super().__init__()
        self.pipeline = AugmentPipeline() if pipeline is None else pipeline
        self.adaptation = Adaptation("ADA", target, interval, speed_kimg)

    @property
    def probability(self) -> Tensor:
        """The pipeline's, 0-dim."""
        return self.pipeline.probability

    def forward(self, x: Tensor) -> Tensor:
        """Change (B, C, H, W) images as the pipeline does."""
        return self.pipeline(x)

    def observe(self, real_scores: Tensor) -> None:
        """Gather the signs of (B,) scores."""
        self.adaptation.observe(real_scores)

    def adjust(self) -> None:
        """Move the pipeline's probability after every `interval` updates."""
        self.adaptation.adjust(self.pipeline.probability)

    def check(self, shape: tuple[int, ...]) -> str | None:
        """As the pipeline's."""
        return self.pipeline.check(shape)
