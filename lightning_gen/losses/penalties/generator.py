"""Penalties of the generator: the length of its paths, and the features of its samples."""

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.penalties.base import GeneratorPenalty, GeneratorTurn
from lightning_gen.losses.penalties.running import RunningMean
from lightning_gen.networks.base import Judgement


@runtime_checkable
class HasStyles(Protocol):
    """A generator in two parts, G(z, y) = synthesis(mapping(z, y)); both are methods, as submodules are not seen."""

    num_styles: int
    """L, how many layers take a style."""

    def mapping(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map (B, latent_dim) latents to (B, d) styles w."""

    def synthesis(self, w: Tensor) -> Tensor:
        """Map (B, L, d) styles, one for each layer, to (B, …) samples."""


class PathLength(GeneratorPenalty):
    """Steps in latent space that change all samples as much (Karras et al., "StyleGAN2", CVPR 2020, eq. 4).

    λ E_{w, y ~ N(0, I)} (‖J_wᵀ y‖₂ − a)²,  J_w = ∂G/∂w, a the exponential moving average of the lengths.

    J_wᵀ y = ∇_w (G(w)·y). As in the authors' code y is scaled by 1/√(pixels), and the squared length is the mean over
    the layers, each with its own copy of w. Of a generator without styles (`HasStyles`) w is the latent z. a takes part
    as it was before this update, so that its batches and all processes agree on it, and starts at 0.

    Args:
        weight: λ, ≥ 0.
        decay: share of a that each update renews, in (0, 1].
        batch_shrink: one sample in so many is evaluated, ≥ 1.
        interval: generator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "path_length"

    def __init__(self, weight: float = 2.0, decay: float = 0.01, batch_shrink: int = 2, interval: int = 4) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        check_at_least(self, 1, batch_shrink=batch_shrink)
        if not 0 < decay <= 1:
            raise UserError(f"PathLength.decay is {decay}: it must be above 0 and at most 1")
        self.weight = weight
        self.batch_shrink = batch_shrink
        self.mean_length = RunningMean(1 - decay, from_first=False)

    def forward(self, turn: GeneratorTurn) -> Tensor:
        """The term of the first rows of the batch, of which the average takes note."""
        lengths = self._lengths(turn, max(1, len(turn.z) // self.batch_shrink))
        self.mean_length.add(lengths.mean())
        return self.weight * (lengths - self.mean_length.value.clone()).square().mean()

    def advance(self) -> None:
        """Move the average."""
        self.mean_length.advance()

    def _lengths(self, turn: GeneratorTurn, rows: int) -> Tensor:
        z, y = turn.z[:rows].detach().requires_grad_(True), None if turn.y is None else turn.y[:rows]
        if isinstance(turn.network, HasStyles):
            w = turn.network.mapping(z, y)[:, None].repeat(1, turn.network.num_styles, 1)
            x = turn.network.synthesis(w)
        else:
            w, x = z, turn.generator(z, y)
        noise = torch.randn_like(x) / math.sqrt(x.shape[2:].numel())
        (gradient,) = torch.autograd.grad((x * noise).sum(), w, create_graph=True)
        return torch.linalg.vector_norm(gradient.flatten(1), dim=1) / math.sqrt(w.shape[1:-1].numel())


class FeatureMatching(GeneratorPenalty):
    """Generated samples with the mean features of real ones (Salimans et al., NIPS 2016, §3.1).

    λ ‖E f(x) − E f(x̂)‖²,  f the features that the discriminator's last layer sees, of real samples without gradient.

    Args:
        weight: λ, ≥ 0.
        interval: generator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range; before training, if the discriminator gives no features.
    """

    name = "feature_matching"
    full_precision = False

    def __init__(self, weight: float = 1.0, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        self.weight = weight

    def check(self, judged: Judgement) -> str | None:
        """Features."""
        if judged.features is not None:
            return None
        return "the discriminator gives scores without features: let its forward return a Judgement that has them"

    def forward(self, turn: GeneratorTurn) -> Tensor:
        """λ ‖E f(x) − E f(x̂)‖² of the batch."""
        real, fake = turn.judge_real().features, turn.judged.features
        assert real is not None, self.check(turn.judged)
        assert fake is not None, self.check(turn.judged)
        return self.weight * (real.mean(dim=0) - fake.mean(dim=0)).square().sum()
