"""Kullback–Leibler divergences of posteriors from priors: in closed form, or estimated."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from lightning_gen.errors import UserError
from lightning_gen.losses.bounds.base import Inference


class KLEstimator(ABC):
    """How KL(q(z | x) ‖ p(z)) is computed."""

    @property
    def differentiates_log_prob(self) -> bool:
        """Whether the gradient goes through log q(z | x) or log p(z) at samples z: wrong of layers where it jumps."""
        return True

    @property
    def needs_closed_form(self) -> bool:
        """Whether the divergence must have one."""
        return False

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

    @property
    def differentiates_log_prob(self) -> bool:
        """No: of samples nothing is asked."""
        return False

    @property
    def needs_closed_form(self) -> bool:
        """It is that."""
        return True

    def between(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """In nats; `z` is not used.

        Raises:
            UserError: if there is no closed form.
        """
        try:
            return kl_divergence(q, p)
        except NotImplementedError as error:
            raise UserError(f"{no_closed_form(q, p)}: set the bound's kl to MonteCarlo") from error


class MonteCarlo(KLEstimator):
    """The mean of log q(z | x) − log p(z) over the latents that were drawn; unbiased, and may be negative."""

    def between(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """In nats."""
        return (q.log_prob(z) - p.log_prob(z)).mean(0)


@runtime_checkable
class HasLevels(Protocol):
    """A distribution of latents in levels, such as a ladder's."""

    def conditionals(self, value: Tensor) -> list[Distribution]:
        """Of each level given those above it in a value (…, d): of a batch shape that broadcasts to (…, d_l)."""


class Levelwise(KLEstimator):
    """Of latents in levels: each level's divergence in closed form, at the levels above it that were drawn from q.

        KL(q ‖ p) = E_q Σ_l KL(q(z_l | z_{l+1}, x) ‖ p(z_l | z_{l+1}))

    Unbiased, and of less variance than `MonteCarlo`; the latents are those that the reconstruction is of.
    """

    @property
    def differentiates_log_prob(self) -> bool:
        """No: levels are compared by their parameters."""
        return False

    def between(self, q: Distribution, p: Distribution, z: Tensor) -> Tensor:
        """In nats, the mean over the latents drawn.

        Raises:
            UserError: if the latents have no levels.
        """
        if not (isinstance(q, HasLevels) and isinstance(p, HasLevels)):
            raise UserError(
                f"kl is Levelwise, but the latents of {_name(q)} and {_name(p)} have no levels: set it to ClosedForm,"
                " or use the family LadderVAE"
            )
        total = z.new_zeros(z.shape[:-1])
        for ours, theirs in zip(q.conditionals(z), p.conditionals(z), strict=True):
            total = total + kl_divergence(ours, theirs).sum(-1)
        return total.mean(0)


def no_closed_form(q: Distribution, p: Distribution) -> str:
    """The beginning of a sentence that says so."""
    return f"the KL divergence of a posterior {_name(q)} from a prior {_name(p)} has no closed form here"


def _name(distribution: Distribution) -> str:
    return type(getattr(distribution, "base_dist", distribution)).__name__


def factors(distribution: Distribution) -> Distribution | None:
    """What each latent is distributed as, of batch shape (…, d); None where latents may depend on each other."""
    if not isinstance(distribution, Independent) or distribution.reinterpreted_batch_ndims != 1:
        return None
    return None if distribution.base_dist.event_shape else distribution.base_dist
