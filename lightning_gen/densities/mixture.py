"""Mixtures of normal densities, and where their estimation begins."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_gen.densities.base import wide
from lightning_gen.densities.covariance import Covariance, FullCovariance
from lightning_gen.densities.normal import Normals
from lightning_gen.distributions.quantisers.kmeans import kmeans, nearest, spread
from lightning_gen.losses.arguments import check_at_least


class MixtureStart(ABC):
    """Which samples belong to which component, before a mixture is estimated.

    Args:
        num_rows: how many training samples are looked at, ≥ 1, drawn by the run's seed.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(self, num_rows: int = 4096) -> None:
        check_at_least(self, 1, num_rows=num_rows)
        self.num_rows = num_rows

    @abstractmethod
    def weights(self, x: Tensor, num_components: int, generator: torch.Generator) -> Tensor:
        """How much each sample (N, D) of one class belongs to each component: (N, K), rows that sum to 1."""


class KMeansStart(MixtureStart):
    """To the nearest of K centres: k-means from a k-means++ start (Arthur, Vassilvitskii, SODA 2007).

    Args:
        iterations: of Lloyd's algorithm, ≥ 0.
        num_rows: how many training samples are looked at, ≥ 1, drawn by the run's seed.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(self, iterations: int = 20, num_rows: int = 4096) -> None:
        super().__init__(num_rows)
        check_at_least(self, 0, iterations=iterations)
        self.iterations = iterations

    def weights(self, x: Tensor, num_components: int, generator: torch.Generator) -> Tensor:
        """0 and 1."""
        words = torch.randint(2**32, (num_components,), generator=generator).to(x.device)
        centres = kmeans(x, spread(x, words), self.iterations, lambda centres: centres)
        return nn.functional.one_hot(nearest(x, centres), num_components).to(x)


class RandomStart(MixtureStart):
    """To all of them, by shares that are uniformly distributed over those that sum to 1.

    All components begin near the mean of the data, so that it takes more steps than `KMeansStart`.
    """

    def weights(self, x: Tensor, num_components: int, generator: torch.Generator) -> Tensor:
        """Exponential numbers over their sums."""
        shares = torch.rand(len(x), num_components, generator=generator, dtype=torch.float64).log().to(x)
        return shares / shares.sum(1, keepdim=True)


class NormalMixtureDensity(Normals):
    """p(x | y) = Σ_k π_{yk} N(x; μ_{yk}, Σ_{yk}), estimated by expectation-maximisation, or by gradients.

    A prior Dirichlet(1 + c/K, …) of the weights and the prior of the covariances keep components that have lost their
    samples: with π = (N_k + c/K)/(N + c), and as wide as the prior, they can find others. With c = 0 there is no prior,
    and a component without samples keeps what it was, with no weight.

    Args:
        sample_shape: of one sample.
        num_classes: C; None for one mixture of all samples.
        num_components: K, ≥ 1, of each class.
        covariance: makes the covariances from C K and D.
        prior_count: c, ≥ 0: how many samples the prior counts for, which believes entries to be independent.
        min_variance: the least variance that the prior believes in, > 0, in the unit of x².
        start: which samples belong to which component at first; None for `KMeansStart()`.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        num_classes: int | None = None,
        num_components: int = 10,
        covariance: Callable[[int, int], Covariance] = FullCovariance,
        prior_count: float = 1.0,
        min_variance: float = 1e-6,
        start: MixtureStart | None = None,
    ) -> None:
        super().__init__(sample_shape, num_classes, num_components, covariance, prior_count, min_variance)
        self.logits = nn.Parameter(torch.zeros(self.num_tables, num_components))
        self.starter = start or KMeansStart()
        self.start_rows = self.starter.num_rows

    def log_weights(self) -> Tensor:
        """Log softmax of the logits."""
        return wide(self.logits).log_softmax(1)

    @torch.no_grad()
    def take_weights(self, counts: Tensor) -> None:
        """(N_k + c/K)/(N + c), at least the smallest number there is."""
        shares = counts + self.prior_count / self.num_components
        shares = (shares / shares.sum(1, keepdim=True)).clamp(min=torch.finfo(self.logits.dtype).tiny)
        self.logits.copy_(shares.log())

    def start(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> None:
        """From memberships, class by class."""
        flat, table = wide(x.flatten(1)), self.table_of(x, y)
        weights = flat.new_full((len(flat), self.num_components), 1 / self.num_components)
        for c in range(self.num_tables):
            rows = (table == c).nonzero().squeeze(1)
            if len(rows):
                weights[rows] = self.starter.weights(flat[rows], self.num_components, generator)
        self.begin(x, y, weights, generator)
