"""Independent entries of few levels: a table of probabilities for each."""

from abc import ABC
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_gen.choice import choose
from lightning_gen.densities.base import AccumulatingDensity, density_levels, wide
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.losses.likelihoods.base import seen
from lightning_gen.noise import Noise
from lightning_gen.precision import full

_DRAWN_AT_ONCE = 2**23
"""Entries of the tables of the samples that are drawn at a time: 64 MiB in float64."""


class IndependentPixels(AccumulatingDensity, ABC):
    """P(x | y) = Π_j θ_{y j k_j}, k_j the level of entry j; with classes, naive Bayes.

    Estimated from counts, θ is the mean of its posterior under a Dirichlet distribution of L equal parameters α,

        θ_{yjk} = (n_{yjk} + α) / (n_y + L α),

    with n_{yjk} of the n_y samples of a class at level k in entry j. Estimated by gradients, its logits are free.

    Args:
        sample_shape: of one sample.
        num_classes: C; None for one table of all samples.
        levels: L.
        pseudocount: α.
    """

    gives_probabilities = True

    def __init__(self, sample_shape: Sequence[int], num_classes: int | None, levels: int, pseudocount: float) -> None:
        super().__init__(sample_shape, num_classes)
        self.levels, self.pseudocount = density_levels(self, levels), pseudocount
        self.logits = nn.Parameter(torch.zeros(self.num_tables, levels, self.dim))

    def log_prob(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B,) nats."""
        k = self._index(x)
        table = full(self.logits).log_softmax(1)
        return table[self.table_of(x, y)[:, None], k, torch.arange(self.dim, device=k.device)].sum(1)

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor:
        """(n, …) values of levels."""
        u = noise.uniform(self.dim)
        size = max(_DRAWN_AT_ONCE // self.logits[0].numel(), 1)
        parts = zip(self.table_of(u, y).split(size), u.split(size), strict=True)
        k = torch.cat([choose(self.logits[table], part) for table, part in parts])
        return self.levels.value(k.to(full(self.logits))).unflatten(1, self.sample_shape)

    def check(self, x: Tensor) -> None:
        """Values must be levels, exactly or rounded to a byte."""
        self.levels.check(x)

    def statistics(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """N (C, L, D)."""
        place = (self.table_of(x, y)[:, None] * self.levels.count + self._index(x)) * self.dim
        place = (place + torch.arange(self.dim, device=x.device)).flatten()
        counts = wide(self.logits.new_zeros(self.logits.numel()))
        ones = torch.ones_like(place, dtype=counts.dtype)
        return self.log_prob(x, y), [counts.scatter_add_(0, place, ones).view_as(self.logits)]

    @torch.no_grad()
    def maximise(self, sums: list[Tensor]) -> None:
        """θ."""
        counts = sums[0] + self.pseudocount
        self.logits.copy_(counts.log() - counts.sum(1, keepdim=True).log())

    def _index(self, x: Tensor) -> Tensor:
        return self.levels.index(full(x)).long().flatten(1)


class BernoulliPixels(IndependentPixels):
    """Independent black and white pixels; with classes, naive Bayes.

    Args:
        sample_shape: of one sample.
        num_classes: C; None for one table of all samples.
        pseudocount: α > 0 of the Beta(α, α) prior of each probability; 1 is Laplace's rule of succession.

    Raises:
        UserError: if the pseudo-count is not above 0.
    """

    def __init__(self, sample_shape: Sequence[int], num_classes: int | None = None, pseudocount: float = 1.0) -> None:
        check_above(self, 0, pseudocount=pseudocount)
        super().__init__(sample_shape, num_classes, 2, pseudocount)

    def check(self, x: Tensor) -> None:
        """There may be two values, −1 and 1."""
        if not bool(((x == -1) | (x == 1)).all()):
            raise UserError(
                f"the density BernoulliPixels needs binary data, -1 or 1, but data has {seen(x)}: wrap data in"
                " Thresholded or Binarised, or use DirichletCategorical"
            )


class DirichletCategorical(IndependentPixels):
    """Independent pixels of L levels under a Dirichlet prior: the posterior predictive distribution of the next sample.

    (Gelman et al., "Bayesian Data Analysis", 3rd ed., 2013, section 3.4.)

    Args:
        sample_shape: of one sample.
        num_classes: C; None for one table of all samples.
        levels: L, ≥ 2, from −1 to 1, equally spaced: 256 for images stored as bytes.
        concentration: α > 0 of each level; 1 is uniform over all distributions, ½ is Jeffreys' prior.

    Raises:
        UserError: if there are fewer than two levels, or the concentration is not above 0.
    """

    gradient_fault = "its prior is one of counts; leave estimator out"

    def __init__(
        self,
        sample_shape: Sequence[int],
        num_classes: int | None = None,
        levels: int = 256,
        concentration: float = 1.0,
    ) -> None:
        check_above(self, 0, concentration=concentration)
        super().__init__(sample_shape, num_classes, levels, concentration)
