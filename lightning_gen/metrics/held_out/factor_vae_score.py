"""The score of FactorVAE."""

from typing import Any

import numpy as np

from lightning_gen.errors import UserError
from lightning_gen.metrics.held_out.factors import FactorMetric


class FactorVAEScore(FactorMetric):
    """`factor_vae_score`: how well the latent that varies least tells which factor was held fixed.

    A vote holds a factor at the value of a row drawn at random, draws rows with that value, and looks for the latent
    whose variance among them is smallest in relation to its variance over all rows. Each latent stands for the factor
    that it was most often found for. The score is the accuracy of that on as many other votes, in [0, 1]; a code that
    knows nothing gets about 1/F, not 0. Source: Kim, Mnih, "Disentangling by Factorising", ICML 2018, section 4; rows
    are drawn with replacement from those of the split.

    Args:
        num_votes: votes to learn from, and again to test on, ≥ 1.
        rows_a_vote: rows in each, ≥ 2.
        threshold: latents whose variance over all rows is at or below this are left out, ≥ 0; made for models with a
            prior of unit variance. If none remains the score is 0.
        seed: of the votes.

    Raises:
        UserError: if an argument is out of its range; if there are no two rows that share a factor's value.
    """

    prefix = "factor_vae_score"

    def __init__(self, num_votes: int = 800, rows_a_vote: int = 100, threshold: float = 0.05, seed: int = 0) -> None:
        super().__init__()
        for key, value, least in (
            ("num_votes", num_votes, 1),
            ("rows_a_vote", rows_a_vote, 2),
            ("threshold", threshold, 0),
        ):
            if not value >= least:
                raise UserError(f"FactorVAEScore.{key} is {value}: it must be at least {least}")
        self.num_votes, self.rows_a_vote, self.threshold, self.seed = num_votes, rows_a_vote, threshold, seed

    def scores(self, z: np.ndarray, v: np.ndarray) -> dict[str, float]:
        """The accuracy of the majority on new votes."""
        variance = z.var(axis=0)
        used = variance > self.threshold
        if not used.any():
            return {self.prefix: 0.0}
        z = z[:, used] / np.sqrt(variance[used])
        random = np.random.default_rng(self.seed)
        learnt, tested = (self._votes(z, v, random) for _ in range(2))
        return {self.prefix: float(tested[np.arange(len(tested)), learnt.argmax(axis=1)].sum() / tested.sum())}

    def _votes(self, z: np.ndarray, v: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """(d, F) numbers of votes."""
        orders = [np.argsort(column, kind="stable") for column in v.T]
        sizes = [np.bincount(column) for column in v.T]
        starts = [np.cumsum(size) - size for size in sizes]
        shared = [np.flatnonzero(size[column] > 1) for size, column in zip(sizes, v.T, strict=True)]
        if not all(len(rows) for rows in shared):
            raise UserError("FactorVAEScore: no two rows share a factor's value: set num_held_out higher")
        votes = np.zeros((z.shape[1], v.shape[1]))
        for k in random.integers(v.shape[1], size=self.num_votes):
            value = v[random.choice(shared[k]), k]
            drawn = orders[k][starts[k][value] + random.integers(sizes[k][value], size=self.rows_a_vote)]
            votes[z[drawn].var(axis=0).argmin(), k] += 1
        return votes

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds how votes are held."""
        return {
            **super().protocol(model, data),
            "votes": self.num_votes,
            "rows_a_vote": self.rows_a_vote,
            "threshold": self.threshold,
            "seed_of_votes": self.seed,
        }
