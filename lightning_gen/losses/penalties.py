"""Penalties on the discriminator, added to its loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.errors import UserError

Scores = Callable[[Tensor, Tensor | None], Tensor]
"""Maps (B, …) samples and (B,) classes, or None, to (B,) scores."""


class Penalty(ABC):
    """A term of the discriminator's loss, evaluated every `interval` of its updates.

    A lazy term is multiplied by its interval, so that its mean strength does not depend on it (Karras et al.,
    "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, §3.1).

    Args:
        interval: number of discriminator updates from one evaluation to the next, ≥ 1.

    Attributes:
        name: under which the term is logged.
    """

    name: str

    def __init__(self, interval: int = 1) -> None:
        if interval < 1:
            raise UserError(
                f"a penalty's interval is {interval}: it counts discriminator updates and must be at least 1"
            )
        self.interval = interval

    @abstractmethod
    def __call__(self, discriminator: Scores, real: Tensor, fake: Tensor, y: Tensor | None) -> Tensor:
        """Return the term, a scalar.

        Args:
            discriminator: called eagerly and in float32 here, whatever the precision of training.
            real: (B, …) real samples.
            fake: (B, …) generated samples, without gradient.
            y: (B,) classes of both, or None.
        """


class R1(Penalty):
    """Squared gradient of the score at real samples (Mescheder, Geiger, Nowozin, ICML 2018, eq. 9).

    R₁ = γ/2 · E_x ‖∇ₓ D(x)‖²

    Args:
        gamma: the weight γ, ≥ 0.
        interval: discriminator updates between two evaluations.
    """

    name = "r1"

    def __init__(self, gamma: float = 10.0, interval: int = 1) -> None:
        super().__init__(interval)
        if not gamma >= 0:
            raise UserError(f"R1.gamma is {gamma}: it must be at least 0")
        self.gamma = gamma

    def __call__(self, discriminator: Scores, real: Tensor, fake: Tensor, y: Tensor | None) -> Tensor:
        """γ/2 · E ‖∇ D(x)‖² over the real batch."""
        return self.gamma / 2 * squared_gradient_norm(discriminator, real, y).mean()


def squared_gradient_norm(discriminator: Scores, x: Tensor, y: Tensor | None) -> Tensor:
    """‖∇ₓ D(x)‖² of each sample, differentiable in the discriminator's parameters.

    Args:
        discriminator: maps (B, …) samples and (B,) classes to (B,) scores; samples must not interact.
        x: (B, …) samples.
        y: (B,) classes, or None.

    Returns:
        (B,) squared Euclidean norms.
    """
    x = x.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x, y).sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1)
