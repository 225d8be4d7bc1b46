"""`DequantisedDensity`: log p(x) of continuous data, and of discrete data by values that are made of them."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.conditions import check_given
from lightning_gen.dequantisation import Dequantisation
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel, Terms, evaluating
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class DequantisedDensity(GenerativeModel, ABC):
    """A model with a density of values, from which `HasLikelihood` and `BoundsLikelihood` follow.

    A density of discrete data, such as images of bytes, would grow without bound where it piles up on their values.
    Dequantisation makes continuous values v of them; log P(x) = log ∫ p(v) dv over the bin of x is then bounded by

        log P(x) ≥ E_{q(v | x)}[log p(v) − log q(v | x)]

    (Theis, van den Oord, Bethge, ICLR 2016; Ho et al., "Flow++", ICML 2019, eq. 8).
    """

    dequantisation: Dequantisation | None
    """Of discrete data whose densities are modelled; None where log p(x) is that of probabilities, or the data are
    continuous."""

    gives_probabilities: ClassVar[bool] = False
    """Whether `log_p` is the logarithm of a probability, of discrete values."""

    @property
    def discrete(self) -> bool:
        """Whether nats are those of probabilities, or bounds on them."""
        return self.gives_probabilities or self.dequantisation is not None

    @property
    def estimates_density(self) -> bool:
        """Whether `log_p` can only be estimated, by `estimate_log_p`."""
        return False

    @property
    def exact_likelihood(self) -> bool:
        """Whether log p(x) is computed; it is bounded where there is dequantisation."""
        return self.dequantisation is None and not self.estimates_density

    @abstractmethod
    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | y), (B,) nats.

        Args:
            x: (B, …) samples in model form, or the continuous values that dequantisation makes of them.
            y: (B,) classes, (B, K) attributes, or None.
        """

    def estimate_log_p(self, x: Tensor, y: Tensor | None, noise: Noise) -> Tensor:
        """Log p(x | y), (B,) nats; where it is overridden, an unbiased estimate of it, with a stream a sample."""
        return self.log_p(x, y)

    @torch.no_grad()
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.HasLikelihood`.

        Raises:
            UserError: if there is dequantisation, so that it can only be bounded, or it can only be estimated; if the
                model is conditional and `y` is None.
        """
        if not self.exact_likelihood:
            told = (
                "models dequantised values, so it bounds" if self.dequantisation is not None else "only estimates here"
            )
            raise UserError(f"{type(self).__name__} {told} log p(x): ask for log_likelihood")
        if self.num_classes is not None:
            check_given(y, "log_prob")
        with evaluating(self):
            return self.log_p(x, y)

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, y: Tensor | None, noise: Noise, num_importance_samples: int) -> Tensor:
        """See `lightning_gen.abilities.BoundsLikelihood`: the latents are the continuous values.

        Raises:
            UserError: if there is no dequantisation, so that it can be computed; if densities are estimated and there
                are several samples, whose mean of exponentials would be no bound; if the model is conditional and `y`
                is None.
        """
        if self.exact_likelihood:
            raise UserError(f"{type(self).__name__} computes log p(x) here: ask for log_prob")
        if self.estimates_density and num_importance_samples > 1:
            raise UserError(
                f"num_importance_samples is {num_importance_samples}, but {type(self).__name__} only estimates log p"
                " here, and a mean of exponentials of estimates is no bound: set it to 1"
            )
        if self.num_classes is not None:
            check_given(y, "log_likelihood")
        with evaluating(self):
            weights = []
            for _ in range(num_importance_samples):
                values, log_q = self.values_of(x, noise)
                log_weight = full(self.estimate_log_p(values, y, noise) - log_q)
                weights.append(log_weight.double() if x.device.type != "mps" else log_weight)
            return torch.stack(weights).logsumexp(0) - math.log(num_importance_samples)

    def elbo_terms(self, x: Tensor, y: Tensor | None, noise: Noise) -> Terms:
        """See `lightning_gen.abilities.BoundsLikelihood`; values tell x, so the reconstruction costs nothing."""
        elbo = self.log_likelihood(x, y, noise, 1)
        return {"elbo": elbo, "reconstruction": torch.zeros_like(elbo), "kl": -elbo}

    def likelihood_protocol(self) -> dict[str, Any]:
        """See `lightning_gen.abilities.DescribesLikelihood`: how discrete values became continuous."""
        return {} if self.dequantisation is None else {"dequantisation": type(self.dequantisation).__name__}

    def values_of(self, x: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """The continuous values v of samples (B, …), and log q(v | x), (B,) nats; x itself where it is continuous.

        Args:
            x: (B, …) samples in model form.
            noise: a stream a sample; None for torch's global generator, as training uses it, with gradients.
        """
        if self.dequantisation is None:
            return x, x.new_zeros(len(x))
        return self.dequantisation(x) if noise is None else self.dequantisation.draw(x, noise)

    def samples_of_values(self, values: Tensor) -> Tensor:
        """The samples (n, …) that values (n, …) stand for."""
        return values if self.dequantisation is None else self.dequantisation.quantise(values)
