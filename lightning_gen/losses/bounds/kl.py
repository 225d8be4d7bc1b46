"""Kullback–Leibler divergences of posteriors from priors: in closed form, or estimated."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from lightning_gen.errors import UserError
from lightning_gen.losses.bounds.base import Inference


class KLEstimator(ABC):
    """How KL(q(z | x) ‖ p(z)) is computed."""

    @abstractmethod
    def between(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """KL(q ‖ p) in nats, of q's batch shape, given values z (S, …) drawn from q."""

    def __call__(self, inference: Inference, z: Tensor) -> Tensor:
        """(B,) nats, given latents z (S, B, d) drawn from q."""
        return self.between(inference.posterior, inference.prior, z)

    def per_latent(self, inference: Inference, z: Tensor) -> Tensor:
        """The same before it is summed, (B, d), where latents are independent of each other; (B, 1) elsewhere."""
        q, p = factors(inference.posterior), factors(inference.prior)
        if q is None or p is None:
            return self(inference, z).unsqueeze(-1)
        return self.between(q, p, z)


class ClosedForm(KLEstimator):
    """What `torch.distributions.kl_divergence` knows, this package's distributions included."""

    def between(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """In nats; `z` is not used.

        Raises:
            UserError: if there is no closed form.
        """
        try:
            return kl_divergence(q, p)
        except NotImplementedError as error:
            names = [type(getattr(distribution, "base_dist", distribution)).__name__ for distribution in (q, p)]
            raise UserError(
                f"the KL divergence of a posterior {names[0]} from a prior {names[1]} has no closed form here: set"
                " model.init_args.bound.init_args.kl to MonteCarlo"
            ) from error


class MonteCarlo(KLEstimator):
    """The mean of log q(z | x) − log p(z) over the latents that were drawn; unbiased, and may be negative."""

    def between(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """In nats."""
        return (q.log_prob(z) - p.log_prob(z)).mean(0)


def factors(distribution: Distribution) -> Distribution | None:
    """What each latent is distributed as, of batch shape (…, d); None where latents may depend on each other."""
    if not isinstance(distribution, Independent) or distribution.reinterpreted_batch_ndims != 1:
        return None
    return None if distribution.base_dist.event_shape else distribution.base_dist
