"""Penalties on the gradient of the score with respect to its input."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import relu

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.penalties.base import DiscriminatorTurn, Penalty, Scores


class _SquaredGradient(Penalty, ABC):
    """γ/2 · E ‖∇ D‖² at chosen samples.

    Args:
        gamma: the weight γ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    of_samples = True

    def __init__(self, gamma: float = 10.0, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, gamma=gamma)
        self.gamma = gamma

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """γ/2 · E ‖∇ D‖² over the batch; by the loss's own scores where they can be differentiated."""
        x, scores = self.chosen(turn.real, turn.fake), self.chosen(turn.real_scores, turn.fake_scores)
        leaf = x if turn.leaves is None else self.chosen(*turn.leaves)
        if leaf.requires_grad:
            norms = _gradient_of(scores, leaf).square().sum(dim=1)
        else:
            norms = squared_gradient_norm(turn.discriminator, x, turn.y)
        return self.gamma / 2 * norms.mean()

    @abstractmethod
    def chosen(self, real: Tensor, fake: Tensor) -> Tensor:
        """One of the two."""


class R1(_SquaredGradient):
    """Squared gradient of the score at real samples (Mescheder, Geiger, Nowozin, ICML 2018, eq. 9).

    R₁ = γ/2 · E_x ‖∇ₓ D(x)‖²

    Args:
        gamma: the weight γ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "r1"

    def chosen(self, real: Tensor, fake: Tensor) -> Tensor:
        """The real samples."""
        return real


class R2(_SquaredGradient):
    """Squared gradient of the score at generated samples (Mescheder, Geiger, Nowozin, ICML 2018, eq. 10).

    R₂ = γ/2 · E_x̂ ‖∇ₓ̂ D(x̂)‖²

    Args:
        gamma: the weight γ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "r2"

    def chosen(self, real: Tensor, fake: Tensor) -> Tensor:
        """The generated samples."""
        return fake


class _GradientNorm(Penalty, ABC):
    """A cost of the gradient's norm at chosen points, by default between real and generated samples.

    Args:
        weight: λ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, weight: float, interval: int) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        self.weight = weight

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """λ · cost(‖∇ D‖) at the points."""
        return self.weight * self.cost(gradient_norm(turn.discriminator, self.points(turn), turn.y))

    def points(self, turn: DiscriminatorTurn) -> Tensor:
        """(B, …) where the gradient is taken."""
        return interpolate(turn.real, turn.fake)

    @abstractmethod
    def cost(self, norms: Tensor) -> Tensor:
        """A scalar, of (B,) norms."""


class GradientPenalty(_GradientNorm):
    """Gradients of norm 1 between the two distributions (WGAN-GP: Gulrajani et al., NIPS 2017, eq. 3).

    λ E_x̃ (‖∇ₓ̃ D(x̃)‖ − 1)²,  x̃ = εx + (1 − ε)x̂,  ε ~ U[0, 1] for each sample. The critic needs a normalisation that
    does not mix samples, or none.

    Args:
        weight: λ, ≥ 0.
        target: the norm that costs nothing, ≥ 0; 1 in the paper.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "gradient_penalty"

    def __init__(self, weight: float = 10.0, target: float = 1.0, interval: int = 1) -> None:
        super().__init__(weight, interval)
        check_at_least(self, 0, target=target)
        self.target = target

    def cost(self, norms: Tensor) -> Tensor:
        """E (‖∇D‖ − target)²."""
        return (norms - self.target).square().mean()


class OneSidedGradientPenalty(_GradientNorm):
    """Gradients of at most norm 1 between the distributions (WGAN-LP: Petzka et al., ICLR 2018, eq. 8).

    λ E_x̃ max(0, ‖∇ₓ̃ D(x̃)‖ − 1)²,  with x̃ as in `GradientPenalty`; Gulrajani et al. (NIPS 2017, §4) name it, too.

    Args:
        weight: λ, ≥ 0.
        target: the largest norm that costs nothing, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "one_sided_gradient_penalty"

    def __init__(self, weight: float = 10.0, target: float = 1.0, interval: int = 1) -> None:
        super().__init__(weight, interval)
        check_at_least(self, 0, target=target)
        self.target = target

    def cost(self, norms: Tensor) -> Tensor:
        """E max(0, ‖∇D‖ − target)²."""
        return relu(norms - self.target).square().mean()


class MaxGradientPenalty(_GradientNorm):
    """The steepest gradient between the distributions (MaxGP of Lipschitz GANs: Zhou et al., ICML 2019, §5).

    λ max_x̃ ‖∇ₓ̃ D(x̃)‖²,  over the batch's x̃ as in `GradientPenalty`; a lower bound of the squared Lipschitz constant,
    and the larger, the larger the batch.

    Args:
        weight: λ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "max_gradient_penalty"

    def __init__(self, weight: float = 1.0, interval: int = 1) -> None:
        super().__init__(weight, interval)

    def cost(self, norms: Tensor) -> Tensor:
        """The largest ‖∇D‖²."""
        return norms.square().max()


class DRAGAN(_GradientNorm):
    """Gradients of norm 1 around the data (Kodali et al., "On Convergence and Stability of GANs", arXiv:1705.07215).

    λ E (‖∇D(x + αδ)‖ − 1)².  The paper writes x + δ, δ ~ N(0, cI); this is the form of its authors' code,
    δ = c · std(x) · u with u ~ U[0, 1] for every entry, one standard deviation for all entries of the batch, and
    α ~ U[0, 1] for every sample.

    Args:
        weight: λ, ≥ 0.
        scale: c, ≥ 0.
        target: the norm that costs nothing, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "dragan"

    def __init__(self, weight: float = 10.0, scale: float = 0.5, target: float = 1.0, interval: int = 1) -> None:
        super().__init__(weight, interval)
        check_at_least(self, 0, scale=scale, target=target)
        self.scale = scale
        self.target = target

    def points(self, turn: DiscriminatorTurn) -> Tensor:
        """(B, …) x + α · c · std(x) · u."""
        x = turn.real
        return interpolate(x + self.scale * x.std(correction=0) * torch.rand_like(x), x)

    def cost(self, norms: Tensor) -> Tensor:
        """E (‖∇D‖ − target)²."""
        return (norms - self.target).square().mean()


def interpolate(real: Tensor, fake: Tensor) -> Tensor:
    """(B, …) points εx + (1 − ε)x̂ on the lines between paired samples, with one ε ~ U[0, 1] for each pair."""
    epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    return torch.lerp(fake, real, epsilon)


def squared_gradient_norm(discriminator: Scores, x: Tensor, y: Tensor | None) -> Tensor:
    """‖∇ₓ D(x)‖² of each score, differentiable in the discriminator's parameters.

    Args:
        discriminator: maps (B, …) samples and (B,) classes to (B,) scores; samples must not interact, but for those
            of one pack.
        x: (B, …) samples.
        y: (B,) classes, or None.

    Returns:
        (B,) squared Euclidean norms; (B / m,) of packs of m samples, as long as there are scores.
    """
    return _gradient(discriminator, x, y).square().sum(dim=1)


def gradient_norm(discriminator: Scores, x: Tensor, y: Tensor | None) -> Tensor:
    """‖∇ₓ D(x)‖ of each score, whose own gradient is 0, not NaN, where it is 0; the rest as above."""
    return torch.linalg.vector_norm(_gradient(discriminator, x, y), dim=1)


def _gradient(discriminator: Scores, x: Tensor, y: Tensor | None) -> Tensor:
    """(B, D) gradients, a row for each score: consecutive samples make a pack."""
    x = x.detach().requires_grad_(True)
    return _gradient_of(discriminator(x, y), x)


def _gradient_of(scores: Tensor, x: Tensor) -> Tensor:
    """(B, D) gradients of (B,) scores by the leaf that they were computed from."""
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return gradient.reshape(len(scores), -1)
