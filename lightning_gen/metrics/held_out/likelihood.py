"""Negative log-likelihood of held-out rows, exact or by importance sampling."""

import math
from typing import Any

from torch import Tensor

from lightning_gen.abilities import BoundsLikelihood, DescribesLikelihood, HasLikelihood, require
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import bits_per_dim
from lightning_gen.metrics.held_out.base import Directions, HeldOutRows
from lightning_gen.metrics.held_out.sums import MeanOfRows


class NegativeLogLikelihood(MeanOfRows):
    """−log p(x) of held-out rows: `nll_…_nats` a row.

    Models that compute log p(x) give `nll_nats`. Models with an approximate posterior give `nll_is<K>_nats`, the
    estimate −log (1/K) Σ_k p(x, z_k)/q(z_k | x) with K latents a row (Burda et al., "Importance Weighted Autoencoders",
    ICLR 2016, section 5: K = 5000). It is an upper bound in expectation, the lower the larger K: values of different K
    are not compared, and K is part of the name.

    Numbers are those of the model's own likelihood, which the protocol names: of probabilities where its `discrete` is
    true, else of densities with respect to x, images in [-1, 1]. Of probabilities there is `nll_…_bits_per_dim`, too,
    which is nats / (D ln 2), D entries a row; of a density it would depend on the unit of x.

    Args:
        num_importance_samples: K, ≥ 1, for models with an approximate posterior; None for exact ones.

    Raises:
        UserError: if K is below 1; at set-up, if the model needs K and there is none, or has no use for it.
    """

    prefix = "nll"

    def __init__(self, num_importance_samples: int | None = None) -> None:
        super().__init__()
        if num_importance_samples is not None and num_importance_samples < 1:
            raise UserError(
                f"NegativeLogLikelihood.num_importance_samples is {num_importance_samples}: it must be at least 1"
            )
        self.num_importance_samples = num_importance_samples

    @property
    def directions(self) -> Directions:
        """Lower is better."""
        k = self.num_importance_samples
        name = self.prefix if k is None else f"{self.prefix}_is{k}"
        return {f"{name}_nats": False}

    def check(self, model: Any, data: Any) -> None:
        """The model must bound log p(x) where there is K, and compute it where there is none."""
        asker = "the metric NegativeLogLikelihood"
        if self.num_importance_samples is None:
            if isinstance(model, BoundsLikelihood) and not _is_exact(model):
                raise UserError(
                    f"NegativeLogLikelihood.num_importance_samples is not set, but {type(model).__name__} estimates"
                    " log p(x) with latents, or dequantised values: set it to their number, such as 5000"
                )
            require(model, HasLikelihood, asker, "compute log p(x)")
        elif _is_exact(model):
            raise UserError(
                f"NegativeLogLikelihood.num_importance_samples is {self.num_importance_samples}, but"
                f" {type(model).__name__} computes log p(x) exactly: leave it out"
            )
        else:
            require(model, BoundsLikelihood, asker, "estimate log p(x)")

    def start(self, first: HeldOutRows, data: Any, split: str) -> None:
        """See how many entries rows have, where they have probabilities."""
        super().start(first, data, split)
        self._entries = math.prod(first.x.shape[1:]) if is_discrete(first.model) else None

    def numbers(self, rows: HeldOutRows) -> list[Tensor]:
        """Nats."""
        k, model, x, y = self.num_importance_samples, rows.model, rows.x, rows.y
        return [-(model.log_prob(x, y) if k is None else model.log_likelihood(x, y, rows.noise(), k))]

    def values(self, states: dict[str, Tensor]) -> dict[str, float]:
        """Nats, and bits a dimension of probabilities; then their standard errors."""
        found: dict[str, float] = {}
        for name, nats in super().values(states).items():
            found[name] = nats
            if self._entries is not None:
                found[name.replace("_nats", "_bits_per_dim")] = bits_per_dim(nats, self._entries)
        return found

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the unit, the likelihood, K, and how the model computes it where there are several ways."""
        return {
            **super().protocol(model, data),
            "unit": unit_of(model),
            "likelihood": likelihood_of(model),
            "entries": math.prod(data.sample_shape),
            "importance_samples": self.num_importance_samples,
            **(model.likelihood_protocol() if isinstance(model, DescribesLikelihood) else {}),
        }


class EvidenceLowerBound(MeanOfRows):
    """A lower bound of log p(x) of held-out rows: `elbo_nats` = `elbo_reconstruction_nats` − `elbo_kl_nats`.

    The bound is E_q[log p(x | z)] − KL(q(z | x) ‖ p(z)) in nats a row (Kingma, Welling, ICLR 2014, eq. 3), estimated
    with one latent a row. Its sign is that of log p(x): higher is better.
    """

    prefix = "elbo"

    @property
    def directions(self) -> Directions:
        """A higher bound is better; of its parts that cannot be said."""
        return {"elbo_nats": True, "elbo_reconstruction_nats": None, "elbo_kl_nats": None}

    def check(self, model: Any, data: Any) -> None:
        """The model must bound log p(x)."""
        if _is_exact(model):
            raise UserError(
                f"the metric EvidenceLowerBound is of no use: {type(model).__name__} computes log p(x), which"
                " NegativeLogLikelihood tells"
            )
        require(model, BoundsLikelihood, "the metric EvidenceLowerBound", "bound log p(x)")

    def numbers(self, rows: HeldOutRows) -> list[Tensor]:
        """The bound, log p(x | z), and the divergence."""
        terms = rows.model.elbo_terms(rows.x, rows.y, rows.noise())
        return [terms[name] for name in ("elbo", "reconstruction", "kl")]

    def protocol(self, model: Any, data: Any) -> dict[str, Any]:
        """Adds the unit and the likelihood."""
        return {
            **super().protocol(model, data),
            "unit": unit_of(model),
            "likelihood": likelihood_of(model),
            "latents_a_row": 1,
        }


def _is_exact(model: Any) -> bool:
    return isinstance(model, HasLikelihood) and model.exact_likelihood


def likelihood_of(model: Any) -> str:
    """The class name of a model's likelihood, or of the model where that is its own."""
    return type(_likelihood(model)).__name__


def is_discrete(model: Any) -> bool:
    """Whether the model, or its likelihood, gives rows probabilities; densities where nothing says so."""
    return any(getattr(part, "discrete", False) for part in (model, _likelihood(model)))


def unit_of(model: Any) -> str:
    """What is measured, in words."""
    return "nats a row, of a probability" if is_discrete(model) else "nats a row, of a density with respect to x"


def _likelihood(model: Any) -> Any:
    return getattr(model, "likelihood", model)
