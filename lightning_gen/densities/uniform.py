"""Uniform distributions: what a model of nothing scores."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gen.densities.base import AccumulatingDensity, density_levels
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.losses.likelihoods.base import seen
from lightning_gen.noise import Noise

_NOTHING = "it has no parameters; leave estimator out"


class UniformLevels(AccumulatingDensity):
    """P(x) = L^−D: every entry is any of L levels, so that it costs log2 L bits.

    Args:
        sample_shape: of one sample.
        num_classes: has no say.
        levels: L, ≥ 2, from −1 to 1, equally spaced: 256 for images stored as bytes.

    Raises:
        UserError: if there are fewer than two levels.
    """

    gives_probabilities = True
    gradient_fault = _NOTHING

    def __init__(self, sample_shape: Sequence[int], num_classes: int | None = None, levels: int = 256) -> None:
        super().__init__(sample_shape, num_classes)
        self.levels = density_levels(self, levels)

    def log_prob(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B,) times −D log L."""
        return x.new_full((len(x),), -self.dim * math.log(self.levels.count))

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor:
        """(n, …) levels."""
        return self.levels.value((noise.uniform(*self.sample_shape) * self.levels.count).floor())

    def check(self, x: Tensor) -> None:
        """Values must be levels, exactly or rounded to a byte."""
        self.levels.check(x)

    def statistics(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """No sums."""
        return self.log_prob(x, y), []

    def maximise(self, sums: list[Tensor]) -> None:
        """Nothing is learnt."""


class UniformBox(AccumulatingDensity):
    """p(x) = (b − a)^−D for x in [a, b]^D, 0 elsewhere.

    Args:
        sample_shape: of one sample.
        num_classes: has no say.
        low: a.
        high: b, above a. Held-out samples beyond the box have no density, so that their mean is infinite.

    Raises:
        UserError: if b is not above a; at set-up, if training data lie beyond the box.
    """

    gradient_fault = _NOTHING

    def __init__(
        self, sample_shape: Sequence[int], num_classes: int | None = None, low: float = -1.0, high: float = 1.0
    ) -> None:
        super().__init__(sample_shape, num_classes)
        check_above(self, low, high=high)
        self.low, self.high = low, high

    def log_prob(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B,): −D log(b − a), or −∞."""
        inside = ((x >= self.low) & (x <= self.high)).flatten(1).all(1)
        return torch.where(inside, x.new_tensor(-self.dim * math.log(self.high - self.low)), -torch.inf)

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor:
        """A + (b − a) u."""
        return self.low + (self.high - self.low) * noise.uniform(*self.sample_shape)

    def check(self, x: Tensor) -> None:
        """Values must be in the box."""
        if not bool(((x >= self.low) & (x <= self.high)).all()):
            raise UserError(
                f"the density UniformBox is 0 beyond its low {self.low:g} and high {self.high:g}, but data has"
                f" {seen(x)}: widen it"
            )

    def statistics(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """No sums."""
        return self.log_prob(x, y), []

    def maximise(self, sums: list[Tensor]) -> None:
        """Nothing is learnt."""
