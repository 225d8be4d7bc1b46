"""What penalties are: terms of a player's loss beside the adversarial one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Judgement

Scores = Callable[[Tensor, Tensor | None], Tensor]
"""Maps (B, …) samples and (B,) classes, or None, to (B,) scores."""

Judge = Callable[[Tensor, Tensor | None], Judgement]
"""Maps (B, …) samples and (B,) classes, or None, to what the discriminator says of them."""

Generate = Callable[[Tensor, Tensor | None], Tensor]
"""Maps (B, d) latents and (B,) classes, or None, to (B, …) samples."""


@dataclass(frozen=True)
class DiscriminatorTurn:
    """What one update of the discriminator sees.

    Attributes:
        discriminator: called eagerly and in float32 within a penalty of `full_precision`.
        real: (B, …) real samples as the discriminator saw them, after any augmentation, without gradient.
        fake: (B, …) generated samples, likewise.
        y: (B,) classes of both, or None.
        real_scores: (B,) scores of `real` that the loss has used, with their graph.
        fake_scores: (B,) scores of `fake`, likewise.
        network: the discriminator itself, for penalties on its weights.
        generator: called without gradient for its weights; augmentation is left out.
        z: (B, d) the latents of `fake`.
        leaves: `real` and `fake` as the loss's scores can be differentiated by, where a penalty that is due asks for it
            (`Penalty.of_samples`) and precision allows it.
    """

    discriminator: Scores
    real: Tensor
    fake: Tensor
    y: Tensor | None
    real_scores: Tensor
    fake_scores: Tensor
    network: nn.Module
    generator: Generate
    z: Tensor
    leaves: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class GeneratorTurn:
    """What one update of the generator sees.

    Attributes:
        generator: called eagerly and in float32 within a penalty of `full_precision`.
        network: the generator itself, for penalties on its weights or on what it maps latents to on the way.
        z: (B, d) latents.
        y: (B,) classes, or None.
        fake: (B, …) the samples of `z`, with their graph.
        judged: what the discriminator says of them (after any augmentation), with its graph.
        real: (B, …) real samples.
        judge_real: gives what the discriminator says of them (after any augmentation), without gradient.
    """

    generator: Generate
    network: nn.Module
    z: Tensor
    y: Tensor | None
    fake: Tensor
    judged: Judgement
    real: Tensor
    judge_real: Callable[[], Judgement]


class _Term(nn.Module, ABC):
    """A term evaluated every `interval` updates of a player and weighted by it, so that its mean strength is the same
    (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, §3.1). A module, so that running
    means (buffers) travel in checkpoints; processes average floating-point buffers at every update.
    """

    name: str
    """Under which the term is logged."""
    full_precision: ClassVar[bool] = True
    """Whether the term is evaluated in float32 and eagerly whatever the precision of training: what is differentiated
    twice must be; what compares scores with the loss's own must not."""

    def __init__(self, interval: int = 1) -> None:
        super().__init__()
        if interval < 1:
            raise UserError(f"{type(self).__name__}.interval is {interval}: it counts updates and must be at least 1")
        self.interval = interval

    def advance(self) -> None:
        """Move running means, after an update, when all its batches were seen and processes have averaged buffers."""


class Penalty(_Term):
    """A term of the discriminator's loss.

    Args:
        interval: discriminator updates from one evaluation to the next, ≥ 1; the term is multiplied by it.
    """

    of_samples: ClassVar[bool] = False
    """Whether it can use the gradient of the loss's own scores with respect to the samples (`leaves`)."""

    @abstractmethod
    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """The term, a scalar."""


class GeneratorPenalty(_Term):
    """A term of the generator's loss.

    Args:
        interval: generator updates from one evaluation to the next, ≥ 1; the term is multiplied by it.
    """

    def check(self, judged: Judgement) -> str | None:
        """What is missing in a judgement of the discriminator for this term, in words, or None."""
        return None

    @abstractmethod
    def forward(self, turn: GeneratorTurn) -> Tensor:
        """The term, a scalar."""
