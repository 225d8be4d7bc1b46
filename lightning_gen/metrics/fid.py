"""Fréchet distance between the Gaussians of features of samples and of data."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.distributed import warn
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.moments import ReferenceStatistics, covariance_factor
from lightning_gen.metrics.sums import SumMetric


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
    return factored_distance(mean1, cov1, covariance_factor(cov1), mean2, cov2, covariance_factor(cov2))


def factored_distance(mean1: Tensor, cov1: Tensor, f1: Tensor, mean2: Tensor, cov2: Tensor, f2: Tensor) -> Tensor:
    """`frechet_distance`, where the factors Fᵢ of Σᵢ (`covariance_factor`) are known; all float64."""
    # With Σᵢ = FᵢFᵢᵀ, the eigenvalues of Σ₁Σ₂ are the squared singular values of F₁ᵀF₂. Taking these directly keeps
    # an error of order ε; roots of eigenvalues of a product would turn ε into √ε for every direction that is lacking.
    trace = torch.linalg.svdvals(f1.T @ f2).sum()
    return ((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2.0 * trace).clamp(min=0.0)


def fast_distance(mean1: Tensor, cov1: Tensor, factor1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """The same from one factor, F₁ of Σ₁: the eigenvalues of F₁ᵀΣ₂F₁ are those of Σ₁Σ₂.

    A third of the time. The root of an eigenvalue below d·ε of the largest, which is noise, is taken as 0; what that
    costs is nearly the same for two covariances that are close to each other, so differences are more exact than
    values. Not clamped, since differences are what it is for.

    Args:
        mean1: (d,) float64.
        cov1: (d, d).
        factor1: (d, r), see `covariance_factor`.
        mean2: (d,).
        cov2: (d, d).
    """
    eigenvalues = torch.linalg.eigvalsh(factor1.T @ cov2 @ factor1)
    noise = len(cov1) * torch.finfo(eigenvalues.dtype).eps * eigenvalues[-1].clamp(min=0)
    trace = torch.where(eigenvalues > noise, eigenvalues, 0.0).sqrt().sum()
    return (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2.0 * trace


class FID(SumMetric):
    """Fréchet Inception Distance, with whatever extractor; the papers' is `fid_inception2048`.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", 2017,
    equation 6. Covariances are normalised by N − 1, everything after the extractor is float64.

    FID of N samples exceeds that of infinitely many by about c / N. `<name>_jackknife` is the value without that bias,
    `<name>_se` its standard error for another draw of as many samples; the reference is held fixed.

    Args:
        extractor: what describes the samples.
        blocks: for error bars, see `SumMetric`; each costs an eigendecomposition of a (d, d) matrix.
        on_few_samples: what to do with no more samples than features, of which the covariance is singular: "warn", or
            "stop" before anything is sampled.

    Raises:
        UserError: if `on_few_samples` is something else.
    """

    prefix = "fid"
    higher_is_better = False
    needs: ClassVar[frozenset[str]] = frozenset({"moments"})
    corrects_bias = True

    def __init__(
        self,
        extractor: FeatureExtractor,
        blocks: int = NUM_BLOCKS,
        on_few_samples: Literal["warn", "stop"] = "warn",
    ) -> None:
        super().__init__(extractor, blocks)
        if on_few_samples not in ("warn", "stop"):
            raise UserError(
                f"{type(self).__name__}: on_few_samples is {on_few_samples!r}, but must be 'warn' or 'stop'"
            )
        self.on_few_samples = on_few_samples
        self.add_block_sum("feature_sum", self.num_features)
        self.add_block_sum("feature_square", self.num_features, self.num_features)

    @property
    def num_features(self) -> int:
        """d, the length of what is compared."""
        return self.extractor.num_features

    def vectors(self, features: Features) -> Tensor:
        """What is compared: (B, d)."""
        return features.pooled

    def min_samples(self) -> int:
        """Two: a covariance needs them."""
        return 2

    def check(self, num_samples: int) -> None:
        """Refuse fewer than 2 samples, and warn of a singular covariance, or refuse it too."""
        super().check(num_samples)
        if num_samples <= self.num_features:
            told = (
                f"{self.name} of {num_samples} samples is biased upwards: it needs many more samples than the "
                f"{self.num_features} features of its extractor; raise num_samples"
            )
            if self.on_few_samples == "stop":
                raise UserError(told)
            warn(told)

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; samples seen so far are forgotten, since sums are taken about its mean."""
        super().set_reference(reference)
        gaussian, d = self.gaussian(reference), self.num_features
        if gaussian.mean.shape != (d,) or gaussian.cov.shape != (d, d):
            raise UserError(
                f"the reference of {self.name} has mean {tuple(gaussian.mean.shape)} and covariance "
                f"{tuple(gaussian.cov.shape)}, but extractor {self.extractor.name!r} has {d} features"
            )

    def gaussian(self, reference: ReferenceStatistics) -> ReferenceStatistics:
        """The part of the reference that describes what is compared."""
        return reference

    def contribution(self, features: Features, index: Tensor) -> dict[str, Tensor]:
        """Σ(x − μ) and Σ(x − μ)(x − μ)ᵀ, μ the reference's mean: about 0 they would cancel."""
        x = self.vectors(features) - self._reference().mean
        return {"feature_sum": x.sum(dim=0), "feature_square": x.T @ x}

    def values(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The distance."""
        reference, (mean, cov) = self._reference(), self._moments(sums)
        own = mean, cov, covariance_factor(cov)
        return {self.name: factored_distance(reference.mean, reference.cov, reference.factor, *own)}

    def compute_all(self) -> dict[str, Tensor]:
        """The distance with its error bars; of too few samples, a warning of how much of it is bias."""
        found = super().compute_all()
        n = int(self.block_count.sum())
        if n <= self.num_features and f"{self.name}_jackknife" in found:
            excess = float(found[self.name] - found[f"{self.name}_jackknife"])
            warn(f"{self.name} of {n} samples is too high by about {excess:.3g}, as the jackknife estimates")
        return found

    def replicate(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The distance, in the fast form."""
        reference = self._reference()
        return {self.name: fast_distance(reference.mean, reference.cov, reference.factor, *self._moments(sums))}

    def protocol(self) -> dict[str, Any]:
        """Adds how covariances are made."""
        return {**super().protocol(), "covariance": "float64, normalised by N - 1"}

    def _moments(self, sums: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and covariance behind the sums."""
        n = sums["block_count"]
        shift = sums["feature_sum"] / n
        cov = (sums["feature_square"] - n * torch.outer(shift, shift)) / (n - 1)
        return self._reference().mean + shift, cov

    def _reference(self) -> ReferenceStatistics:
        return self.gaussian(self.data_statistics())
