"""Separated attribute predictability."""

from typing import Any

import numpy as np

from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out.factors import SPLIT_SEED, FactorMetric, gaps, halves


class SeparatedAttributePredictability(FactorMetric):
    """`sap`: the mean over factors of how much better the best latent predicts it than the second best.

    Source: Kumar et al., "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations", ICLR
    2018, section 3. As there, a latent predicts a factor of discrete values by thresholds, here those of a
    classification tree with one leaf a value, fitted to one half of the rows; how well is its balanced accuracy on the
    other half. Since the second best predicts at chance at worst, a perfect code gets 1 − 1/values, not 1. (Locatello
    et al., ICML 2019, use a linear support vector machine, so their numbers differ.)

    Args:
        threshold: latents whose variance is at or below this predict nothing, ≥ 0; made for models with a prior of unit
            variance.

    Raises:
        UserError: if it is below 0.
    """

    prefix = "sap"

    def __init__(self, threshold: float = 0.01) -> None:
        super().__init__()
        if not threshold >= 0:
            raise UserError(f"SeparatedAttributePredictability.threshold is {threshold}: it must be at least 0")
        self.threshold = threshold

    def scores(self, z: np.ndarray, v: np.ndarray) -> dict[str, float]:
        """The mean gap."""
        used = z.var(axis=0) > self.threshold
        table = [[_accuracy(z[:, j], column) if used[j] else 0.0 for column in v.T] for j in range(z.shape[1])]
        return {self.prefix: float(gaps(np.array(table)).mean())}

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds how latents predict."""
        return {
            **super().protocol(model, data),
            "predictor": "thresholds of a tree with one leaf a value, half of the rows",
            "score": "balanced accuracy on the other half",
            "threshold": self.threshold,
            "split_seed": SPLIT_SEED,
        }


def _accuracy(z: np.ndarray, v: np.ndarray) -> float:
    """Balanced accuracy of thresholds on latents (N,) as predictors of values (N,)."""
    from sklearn.tree import DecisionTreeClassifier

    fitted, tested = halves(len(z))
    leaves = max(int(v.max()) + 1, 2)
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0)
    right = tree.fit(z[fitted, None], v[fitted]).predict(z[tested, None]) == v[tested]
    count = np.bincount(v[tested])
    return float((np.bincount(v[tested], right)[count > 0] / count[count > 0]).mean())
