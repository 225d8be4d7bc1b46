"""Disentanglement, completeness and informativeness."""

from typing import Any

import numpy as np

from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out.base import Directions
from lightning_gen.metrics.held_out.factors import SPLIT_SEED, FactorMetric, halves


class DCI(FactorMetric):
    """`dci_disentanglement`, `dci_completeness` and `dci_informativeness`, each in [0, 1].

    R_jk is how important latent j is for predicting factor k. Disentanglement is the mean over latents of
    1 − H_F(R_j / Σ_k R_jk), weighted by their importance: 1 where each latent matters to one factor. Completeness is
    the mean over factors of 1 − H_d(R_k / Σ_j R_jk): 1 where one latent matters to each factor. Logarithms are to the
    base of the number of factors, or latents. Source: Eastwood, Williams, "A Framework for the Quantitative Evaluation
    of Disentangled Representations", ICLR 2018, section 2, with one of their two predictors, a random forest, and its
    importance (mean decrease of impurity). Informativeness is not the error, as there, but the accuracy, the mean over
    factors, on the half of the rows that the forests have not seen. (Locatello et al., ICML 2019, use gradient
    boosting, so their numbers differ.)

    Args:
        num_trees: of each forest, ≥ 1.
        seed: of the forests.

    Raises:
        UserError: if `num_trees` is below 1; if there are fewer than two factors or latents.
    """

    prefix = "dci"

    def __init__(self, num_trees: int = 100, seed: int = 0) -> None:
        super().__init__()
        if num_trees < 1:
            raise UserError(f"DCI.num_trees is {num_trees}: it must be at least 1")
        self.num_trees, self.seed = num_trees, seed

    @property
    def directions(self) -> Directions:
        """Higher is better."""
        return {f"{self.prefix}_{name}": True for name in ("disentanglement", "completeness", "informativeness")}

    def scores(self, z: np.ndarray, v: np.ndarray) -> dict[str, float]:
        """The three."""
        if min(z.shape[1], v.shape[1]) < 2:
            raise UserError(
                f"DCI needs at least two latents and two factors that vary, but there are {z.shape[1]} and"
                f" {v.shape[1]}: leave it out"
            )
        importance, accuracies = zip(*(self._forest(z, column) for column in v.T), strict=True)
        found = (*disentanglement_completeness(np.stack(importance, axis=1)), float(np.mean(accuracies)))
        return dict(zip(self.directions, found, strict=True))

    def _forest(self, z: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, float]:
        """(d,) importances, and the accuracy on the other half."""
        from sklearn.ensemble import RandomForestClassifier

        fitted, tested = halves(len(z))
        # every split may use every latent: else trees must use some that say nothing, which become important
        forest = RandomForestClassifier(self.num_trees, max_features=None, random_state=self.seed)
        forest.fit(z[fitted], v[fitted])
        return forest.feature_importances_, float((forest.predict(z[tested]) == v[tested]).mean())

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the forest."""
        return {
            **super().protocol(model, data),
            "predictor": "random forest, all latents at every split, half of the rows",
            "trees": self.num_trees,
            "seed_of_forests": self.seed,
            "split_seed": SPLIT_SEED,
        }


def disentanglement_completeness(importance: np.ndarray) -> tuple[float, float]:
    """Both of (d, F) importances ≥ 0, d ≥ 2 and F ≥ 2; a latent or factor without any has a score of 0."""
    of_latent, of_factor = importance.sum(axis=1), importance.sum(axis=0)
    disentangled, complete = _concentration(importance, 1), _concentration(importance, 0)
    total = of_latent.sum()
    return float((disentangled * of_latent).sum() / total) if total else 0.0, float((complete * (of_factor > 0)).mean())


def _concentration(importance: np.ndarray, axis: int) -> np.ndarray:
    """1 − entropy along an axis, to the base of its length."""
    total = importance.sum(axis=axis, keepdims=True)
    share = importance / np.where(total > 0, total, 1)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=axis)
    return 1 - entropy / np.log(importance.shape[axis])
