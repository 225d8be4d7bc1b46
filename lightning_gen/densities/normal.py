"""Normal densities, one or one for each class, and what mixtures of them share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_gen.densities.base import AccumulatingDensity, check_finite, wide
from lightning_gen.densities.covariance import Covariance, FullCovariance, Moments
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.noise import Noise


class Normals(AccumulatingDensity, ABC):
    """p(x | y) = Σ_k π_{yk} N(x; μ_{yk}, Σ_{yk}), of M = C K normal distributions.

    The prior that estimation from sums maximises the posterior under counts as c samples of each normal distribution
    with variances ψ₀ (see `Covariance`), which are those of all samples, times K^(−2/D) where there are K components
    (Fraley, Raftery, "Bayesian regularization for normal mixture estimation and model-based clustering", Journal of
    Classification 24, 2007, section 3, of whose inverse Wishart prior this takes the diagonal), and at least
    `min_variance`. The prior has no say in estimation by gradients.

    Args:
        sample_shape: of one sample.
        num_classes: C; None for one distribution of all samples.
        num_components: K.
        covariance: makes the covariances from M and D.
        prior_count: c, ≥ 0.
        min_variance: the least variance that the prior believes in, > 0, in the unit of x².

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        num_classes: int | None,
        num_components: int,
        covariance: Callable[[int, int], Covariance],
        prior_count: float,
        min_variance: float,
    ) -> None:
        super().__init__(sample_shape, num_classes)
        check_at_least(self, 1, num_components=num_components)
        check_at_least(self, 0, prior_count=prior_count)
        check_above(self, 0, min_variance=min_variance)
        self.num_components = num_components
        self.prior_count, self.min_variance = prior_count, min_variance
        num_normals = self.num_tables * num_components
        self.means = nn.Parameter(torch.randn(num_normals, self.dim))
        self.covariance = covariance(num_normals, self.dim)

    # ---------------------------------------------------------------- the density

    @abstractmethod
    def log_weights(self) -> Tensor:
        """Log π, (C, K)."""

    @abstractmethod
    def take_weights(self, counts: Tensor) -> None:
        """Let π follow from how many samples (C, K) each component has."""

    def log_joint(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Log π_m N(x; μ_m, Σ_m), (B, M); −∞ where m belongs to another class than the sample."""
        flat = wide(x.flatten(1))
        log_joint = wide(self.log_weights()).flatten() + self.covariance.log_normal(flat, wide(self.means))
        return log_joint.masked_fill(~self._own(x, y), -torch.inf)

    def log_prob(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B,) nats, in float64."""
        return self.log_joint(x, y).logsumexp(1)

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor:
        """(n, …) in the type of the parameters."""
        u = noise.uniform()
        table = self.table_of(u, y)
        edges = wide(self.log_weights()).softmax(1).cumsum(1)[:, :-1]
        choice = table * self.num_components + (u.unsqueeze(1) >= edges[table]).sum(1)
        x = wide(self.means)[choice] + self.covariance.deviations(noise, choice)
        return x.to(self.means.dtype).unflatten(1, self.sample_shape)

    def check(self, x: Tensor) -> None:
        """Values must be finite."""
        check_finite(self, x)

    def _own(self, x: Tensor, y: Tensor | None) -> Tensor:
        """(B, M) bool: whether a normal distribution is one of the sample's class."""
        table = torch.arange(self.num_tables, device=x.device).repeat_interleave(self.num_components)
        return self.table_of(x, y).unsqueeze(1) == table

    # ---------------------------------------------------------------- estimation

    def statistics(self, x: Tensor, y: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        """N (M,), Σ w x (M, D) and those of the covariance, w how probably a sample is of each component."""
        log_joint = self.log_joint(x, y)
        return log_joint.logsumexp(1), self._sums(wide(x.flatten(1)), log_joint.softmax(1))

    @torch.no_grad()
    def maximise(self, sums: list[Tensor]) -> None:
        """Weights, means, then covariances about the new means. A component without samples keeps its mean."""
        counts, first, *others = sums
        means = first / counts.unsqueeze(1)
        means = torch.where(counts.unsqueeze(1) > 0, means, wide(self.means))
        variance = self._prior_variance(counts, first, self.covariance.squares(others))
        self.take_weights(counts.view(self.num_tables, self.num_components))
        self.covariance.maximise(others, Moments(counts, first, means, self.prior_count, variance))
        self.means.copy_(means)

    def _sums(self, x: Tensor, weights: Tensor) -> list[Tensor]:
        return [weights.sum(0), weights.T @ x, *self.covariance.statistics(x, weights)]

    def _prior_variance(self, counts: Tensor, first: Tensor, squares: Tensor) -> Tensor:
        """ψ₀ (D,)."""
        total = counts.sum()
        variance = squares.sum(0) / total - (first.sum(0) / total).square()
        return (variance * self.num_components ** (-2 / self.dim)).clamp(min=self.min_variance)

    @torch.no_grad()
    def begin(self, x: Tensor, y: Tensor | None, weights: Tensor, generator: torch.Generator) -> None:
        """Take the parameters that follow from given memberships.

        Args:
            x: (N, …) samples.
            y: (N,) classes, or None.
            weights: (N, K) how much samples belong to each component of their class, rows that sum to 1.
            generator: of the CPU.
        """
        flat = wide(x.flatten(1))
        weights = wide(weights).repeat(1, self.num_tables) * self._own(x, y)
        counts = weights.sum(0).unsqueeze(1)
        means = torch.where(counts > 0, (weights.T @ flat) / counts.clamp(min=1e-30), flat.mean(0))
        self.means.copy_(means)
        self.covariance.start(flat, weights, means, generator)
        self.maximise(self._sums(flat, weights))


class NormalDensity(Normals):
    """p(x | y) = N(x; μ_y, Σ_y); with classes, what quadratic discriminant analysis is made of.

    From sums over all samples its mean is theirs, and Σ = (N S + c Ψ₀)/(N + c) of their covariance S, at once; with a
    covariance of low rank, in steps.

    Args:
        sample_shape: of one sample.
        num_classes: C; None for one distribution of all samples.
        covariance: makes Σ from C and D.
        prior_count: c, ≥ 0: how many samples the prior counts for, which believes entries to be independent, with the
            variances that they have in all samples.
        min_variance: the least variance that the prior believes in, > 0, in the unit of x².

    Raises:
        UserError: if a number is out of its range.
    """

    start_rows = 4096

    def __init__(
        self,
        sample_shape: Sequence[int],
        num_classes: int | None = None,
        covariance: Callable[[int, int], Covariance] = FullCovariance,
        prior_count: float = 1.0,
        min_variance: float = 1e-6,
    ) -> None:
        super().__init__(sample_shape, num_classes, 1, covariance, prior_count, min_variance)

    def log_weights(self) -> Tensor:
        """0."""
        return torch.zeros_like(self.means[:, :1])

    def take_weights(self, counts: Tensor) -> None:
        """There are none."""

    def start(self, x: Tensor, y: Tensor | None, generator: torch.Generator) -> None:
        """From the samples that are given."""
        self.begin(x, y, torch.ones(len(x), 1, device=x.device), generator)
