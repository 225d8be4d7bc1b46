"""Importance weighted bounds: tighter ones, from several latents of each sample.

Notation: log w_k = log p(x | z_k) + log p(z_k) − log q(z_k | x), z_k ~ q(z | x).
Rainforth et al. is "Tighter Variational Bounds are Not Necessarily Better": more latents in one bound leave the
encoder less signal, so that several bounds share them there.
"""

from math import log

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds.base import Bound, Inference, Terms


class IWAE(Bound):
    """−E log (1/K) Σ_k w_k (Burda, Grosse, Salakhutdinov, ICLR 2016, eq. 8).

    Args:
        num_samples: K, latents drawn for each sample, ≥ 1.

    Raises:
        UserError: if there are none.
    """

    def __init__(self, num_samples: int = 50) -> None:
        super().__init__()
        check_at_least(self, 1, num_samples=num_samples)
        self.num_samples = num_samples

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The negative `bound`, and `elbo`, the mean of log w."""
        log_w = inference.log_weights(inference.posterior.rsample((self.num_samples,)))
        bound = log_mean_exp(log_w, 0).mean()
        return -bound, {"bound": bound, "elbo": log_w.mean()}


class CIWAE(IWAE):
    """−β ELBO − (1 − β) IWAE, both of the same latents (Rainforth et al., ICML 2018).

    Args:
        num_samples: K, latents drawn for each sample, ≥ 1.
        beta: β in [0, 1]; a callback may anneal it.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, num_samples: int = 50, beta: float = 0.5) -> None:
        super().__init__(num_samples)
        if not 0 <= beta <= 1:
            raise UserError(f"CIWAE.beta is {beta}: it must be at least 0 and at most 1")
        self.beta = float(beta)

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The negative mixture; `bound` is IWAE's, and `elbo` the other part."""
        negative, terms = super().forward(inference)
        return (1 - self.beta) * negative - self.beta * terms["elbo"], terms


class _Means(Bound):
    """Several importance weighted bounds of a sample.

    Args:
        num_means: M bounds for each sample, ≥ 1.
        num_samples: K latents for each bound, ≥ 1.

    Raises:
        UserError: if there are none.
    """

    def __init__(self, num_means: int = 5, num_samples: int = 10) -> None:
        super().__init__()
        check_at_least(self, 1, num_means=num_means, num_samples=num_samples)
        self.num_means = num_means
        self.num_samples = num_samples

    def latents(self, inference: Inference) -> Tensor:
        """(M · K, B, d)."""
        return inference.posterior.rsample((self.num_means * self.num_samples,))

    def mean_of_bounds(self, log_w: Tensor) -> Tensor:
        """(1/M) Σ_m log (1/K) Σ_k w_mk of (M · K, B) log-weights, the mean over the batch."""
        return log_mean_exp(log_w.unflatten(0, (self.num_means, self.num_samples)), 1).mean()


class MIWAE(_Means):
    """−E (1/M) Σ_m log (1/K) Σ_k w_mk (Rainforth et al., ICML 2018).

    Args:
        num_means: M bounds for each sample, ≥ 1.
        num_samples: K latents for each bound, ≥ 1.

    Raises:
        UserError: if there are none.
    """

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The negative `bound`, and `elbo`."""
        log_w = inference.log_weights(self.latents(inference))
        bound = self.mean_of_bounds(log_w)
        return -bound, {"bound": bound, "elbo": log_w.mean()}


class PIWAE(_Means):
    """IWAE with M · K latents for decoder and prior, MIWAE for the encoder (Rainforth et al., ICML 2018).

    Both of the same latents. Each decodes them once, so a step costs two passes through the decoder. The loss has the
    value of IWAE's and the gradients of both.

    Args:
        num_means: M bounds for each sample, ≥ 1.
        num_samples: K latents for each bound, ≥ 1.

    Raises:
        UserError: if there are none.
    """

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The negative `bound`, IWAE's; `encoder_bound`, MIWAE's; and `elbo`."""
        z = self.latents(inference)
        log_q, fixed = inference.posterior.log_prob(z), z.detach()
        log_w = inference.log_likelihood(fixed) + inference.prior.log_prob(fixed) - log_q.detach()
        bound = log_mean_exp(log_w, 0).mean()
        encoder_bound = self.mean_of_bounds(inference.frozen_log_likelihood(z) + inference.frozen_log_prior(z) - log_q)
        terms = {"bound": bound, "encoder_bound": encoder_bound, "elbo": log_w.mean()}
        return encoder_bound.detach() - encoder_bound - bound, terms


def log_mean_exp(x: Tensor, dim: int) -> Tensor:
    """Log of the mean of exponentials over a dimension."""
    return x.logsumexp(dim) - log(x.shape[dim])
