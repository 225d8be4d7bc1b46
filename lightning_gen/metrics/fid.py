"""Fréchet distance between the Gaussians of features of samples and of data."""

from typing import Any

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.distributed import warn
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.moments import ReferenceStatistics, covariance_factor
from lightning_gen.metrics.reference import reference_statistics


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½), clamped at 0.

    Source: Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982.

    Args:
        mean1: (d,). Everything is computed in float64.
        cov1: (d, d), symmetric and positive semi-definite up to rounding; any rank.
        mean2: as `mean1`.
        cov2: as `cov1`.

    Returns:
        A float64 scalar ≥ 0, on the device of `mean1`.
    """
    mean1, cov1, mean2, cov2 = (t.double() for t in (mean1, cov1, mean2, cov2))
    return _distance(mean1, cov1, covariance_factor(cov1), mean2, cov2, covariance_factor(cov2))


def _distance(mean1: Tensor, cov1: Tensor, f1: Tensor, mean2: Tensor, cov2: Tensor, f2: Tensor) -> Tensor:
    # With Σᵢ = FᵢFᵢᵀ, the eigenvalues of Σ₁Σ₂ are the squared singular values of F₁ᵀF₂. Taking these directly keeps
    # an error of order ε; roots of eigenvalues of a product would turn ε into √ε for every direction that is lacking.
    trace = torch.linalg.svdvals(f1.T @ f2).sum()
    return ((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2.0 * trace).clamp(min=0.0)


class FID(GenerativeMetric):
    """Fréchet Inception Distance, with whatever extractor; the papers' is `fid_inception2048`.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
    equation 6. Covariances are normalised by N − 1, everything after the extractor is float64.

    Args:
        extractor: what describes the samples.
    """

    prefix = "fid"
    higher_is_better = False
    needs_reference = True
    feature_sum: Tensor
    feature_square: Tensor

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__(extractor)
        self.reference: ReferenceStatistics | None = None
        self.add_sum("feature_sum", extractor.num_features)
        self.add_sum("feature_square", extractor.num_features, extractor.num_features)

    def min_samples(self) -> int:
        """Two: a covariance needs them."""
        return 2

    def check(self, num_samples: int) -> None:
        """Refuse fewer than 2 samples, and warn of a rank-deficient covariance."""
        super().check(num_samples)
        if num_samples <= self.extractor.num_features:
            warn(
                f"{self.name} of {num_samples} samples is biased upwards: it needs many more samples than the "
                f"{self.extractor.num_features} features of its extractor; raise num_samples"
            )

    def fit_reference(self, data: Any, **options: Any) -> None:
        """Set the reference from `data`, or from the cache; options as for `reference_statistics`."""
        self.set_reference(reference_statistics(self.extractor, data, **options))

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; the samples seen so far are forgotten, since sums are taken about its mean.

        Raises:
            UserError: if it is of another extractor, or of fewer than 2 samples.
        """
        d, used = self.extractor.num_features, reference.protocol.get("extractor")
        if reference.mean.shape != (d,) or reference.cov.shape != (d, d):
            raise UserError(
                f"the reference of {self.name} has mean {tuple(reference.mean.shape)} and covariance "
                f"{tuple(reference.cov.shape)}, but extractor {self.extractor.name!r} has {d} features"
            )
        if reference.n < 2:
            raise UserError(f"the reference of {self.name} holds {reference.n} samples, but needs at least 2")
        if used is not None and used != self.extractor.protocol():
            raise UserError(f"the reference of {self.name} was made with another extractor: {used}")
        self.reset()
        self.reference = reference

    def accumulate(self, features: Features, index: Tensor) -> None:
        """Add Σ(x − μ) and Σ(x − μ)(x − μ)ᵀ, μ the reference's mean: about 0 they would cancel."""
        x = features.pooled - self._reference().mean
        self.feature_sum += x.sum(dim=0)
        self.feature_square += x.T @ x

    def compute_all(self) -> dict[str, Tensor]:
        """The distance."""
        reference, n = self._reference(), self.num_seen
        shift = self.feature_sum / n
        cov = (self.feature_square - n * torch.outer(shift, shift)) / (n - 1)
        mean = reference.mean + shift
        own = mean, cov, covariance_factor(cov)
        return {self.name: _distance(reference.mean, reference.cov, reference.factor, *own)}

    def protocol(self) -> dict[str, Any]:
        """Adds the reference's."""
        reference = None if self.reference is None else {**self.reference.protocol, "num": self.reference.n}
        if reference is not None:
            reference.pop("extractor", None)
        return {**super().protocol(), "reference": reference, "covariance": "float64, normalised by N - 1"}

    def _reference(self) -> ReferenceStatistics:
        if self.reference is None:
            raise UserError(f"{self.name} has no reference: call fit_reference or set_reference first")
        self.reference = self.reference.to(self.num_seen.device)
        return self.reference
