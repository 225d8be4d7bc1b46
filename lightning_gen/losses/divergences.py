"""Distances of two distributions from samples of both."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.precision import full


class Kernel(ABC):
    """A measure of how alike vectors are, positive definite.

    Lengths are in units of standard normal vectors of the same number d of entries, for which E‖a − b‖² = 2d: a scale
    s stands for C = s · 2d. Several scales are averaged.

    Args:
        scales: s, each above 0.

    Raises:
        UserError: if there is no scale, or one is not above 0.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        if not scales or not all(scale > 0 for scale in scales):
            raise UserError(f"{type(self).__name__}.scales is {list(scales)}: give one or more numbers above 0")
        self.scales = list(scales)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """All k of pairs of (n, d) and (m, d) vectors: (n, m), in float32 or more."""
        a, b = (full(x) for x in (a, b))
        # differences, not ‖a‖² + ‖b‖² − 2ab: that cancels where vectors are close, and autocast would round it
        squared = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        kernels = [self.of_squared_distance(squared, scale * 2 * a.shape[1]) for scale in self.scales]
        return torch.stack(kernels).mean(0)

    @abstractmethod
    def of_squared_distance(self, squared: Tensor, length: float) -> Tensor:
        """The kernel from ‖a − b‖² and C."""


class RBF(Kernel):
    """exp(−‖a − b‖² / C), the Gaussian kernel of variance C/2.

    Args:
        scales: multiples s of the expected squared distance 2d of standard normal vectors, C = s · 2d; one of 1 if
            unset, where the variance is d.

    Raises:
        UserError: if there is no scale, or one is not above 0.
    """

    def __init__(self, scales: list[float] | None = None) -> None:
        super().__init__([1.0] if scales is None else scales)

    def of_squared_distance(self, squared: Tensor, length: float) -> Tensor:
        """exp(−‖a − b‖² / C)."""
        return (-squared / length).exp()


class InverseMultiquadric(Kernel):
    """C / (C + ‖a − b‖²), whose tails reach outliers (Tolstikhin et al., "Wasserstein Auto-Encoders", ICLR 2018, §4).

    The paper has C = 2d, its authors' code the sum over the scales that are the default here; this is their mean.

    Args:
        scales: multiples s of the expected squared distance 2d of standard normal vectors, C = s · 2d; those of the
            authors' code, from 0.1 to 10, if unset.

    Raises:
        UserError: if there is no scale, or one is not above 0.
    """

    def __init__(self, scales: list[float] | None = None) -> None:
        super().__init__([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0] if scales is None else scales)

    def of_squared_distance(self, squared: Tensor, length: float) -> Tensor:
        """C / (C + ‖a − b‖²)."""
        return length / (length + squared)


def maximum_mean_discrepancy(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """The unbiased estimate of MMD² (Gretton et al., JMLR 13, 2012, eq. 3); it may be negative.

    Args:
        a: (n, d) samples of one distribution, n ≥ 2.
        b: (m, d) samples of the other, m ≥ 2.
        kernel: k.

    Returns:
        Σ_{i≠j} k(aᵢ, aⱼ) / n(n−1) + Σ_{i≠j} k(bᵢ, bⱼ) / m(m−1) − 2 Σ_ij k(aᵢ, bⱼ) / nm, a scalar.

    Raises:
        UserError: if there are too few samples.
    """
    if min(len(a), len(b)) < 2:
        raise UserError(f"a maximum mean discrepancy of {len(a)} and {len(b)} samples: it needs a batch of at least 2")
    return _mean_of_others(kernel(a, a)) + _mean_of_others(kernel(b, b)) - 2 * kernel(a, b).mean()


def _mean_of_others(k: Tensor) -> Tensor:
    """The mean of a square matrix without its diagonal."""
    return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))
