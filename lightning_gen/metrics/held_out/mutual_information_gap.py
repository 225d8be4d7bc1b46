"""Mutual information gap."""

from typing import Any

import numpy as np

from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out.factors import FactorMetric, gaps


class MutualInformationGap(FactorMetric):
    """`mig`: (1/F) Σ_k (I(z_j; v_k) − max_{i ≠ j} I(z_i; v_k)) / H(v_k), j the latent that tells most of factor v_k.

    In [0, 1], 1 where one latent, and no other, tells each factor. Source: Chen et al., "Isolating Sources of
    Disentanglement in Variational Autoencoders", NeurIPS 2018, eq. 6. Information is that of frequencies, in nats;
    latents are cut into bins of equal width between their least and their greatest value, as Locatello et al.,
    "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations", ICML 2019, do with 20
    bins. (Chen et al. integrate over the posterior instead, so their numbers differ.) From N rows it is biased upwards
    by about (bins − 1)(values − 1)/2N nats for each pair, before the difference.

    Args:
        bins: ≥ 2.

    Raises:
        UserError: if there are fewer.
    """

    prefix = "mig"

    def __init__(self, bins: int = 20) -> None:
        super().__init__()
        if bins < 2:
            raise UserError(f"MutualInformationGap.bins is {bins}: it must be at least 2")
        self.bins = bins

    def scores(self, z: np.ndarray, v: np.ndarray) -> dict[str, float]:
        """The mean gap over factors."""
        cut = binned(z, self.bins)
        pairs = [[mutual_information(cut[:, j], v[:, k]) for k in range(v.shape[1])] for j in range(z.shape[1])]
        entropies = [mutual_information(v[:, k], v[:, k]) for k in range(v.shape[1])]
        return {self.prefix: float((gaps(np.array(pairs)) / entropies).mean())}

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the bins."""
        return {**super().protocol(model, data), "bins": self.bins, "binning": "equal width, least to greatest value"}


def binned(z: np.ndarray, bins: int) -> np.ndarray:
    """(N, d) int64 in [0, bins): which of `bins` intervals between its least and greatest value a number is in."""
    low, high = z.min(axis=0), z.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return np.minimum((z - low) / width * bins, bins - 1).astype(np.int64)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Σ p(a, b) log(p(a, b) / p(a)p(b)) in nats, of the frequencies of two (N,) lists of numbers ≥ 0."""
    rows, columns = int(a.max()) + 1, int(b.max()) + 1
    joint = np.bincount(a * columns + b, minlength=rows * columns).reshape(rows, columns) / len(a)
    product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / product[there])).sum())
