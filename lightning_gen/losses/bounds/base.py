"""What a bound on log p(x) is made of, and what every bound keeps."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.distributions import Distribution

from lightning_gen.errors import UserError

Terms = dict[str, Tensor]
"""Scalars to log, by name."""


@dataclass(frozen=True)
class Inference:
    """What a bound sees of a batch of B samples. S is the number of latents drawn for each."""

    posterior: Distribution
    """q(z | x), of batch shape (B,) and event shape (d,)."""
    prior: Distribution
    """p(z), of batch shape () or, when conditional, (B,), and event shape (d,)."""
    log_likelihood: Callable[[Tensor], Tensor]
    """z (S, B, d) to log p(x | z) (S, B) in nats."""
    frozen_log_likelihood: Callable[[Tensor], Tensor]
    """The same, with a gradient through z alone: none reaches the decoder's weights."""
    frozen_log_posterior: Callable[[Tensor], Tensor]
    """z (S, B, d) to log q(z | x) (S, B), with a gradient through z alone: none reaches the parameters of q."""
    frozen_log_prior: Callable[[Tensor], Tensor]
    """z (S, B, d) to log p(z) (S, B), likewise."""

    def log_weights(self, z: Tensor) -> Tensor:
        """Log p(x | z) + log p(z) − log q(z | x) for latents z (S, B, d): (S, B) nats."""
        return self.log_likelihood(z) + self.prior.log_prob(z) - self.posterior.log_prob(z)


class Bound(nn.Module, ABC):
    """A loss that bounds −log p(x) from above, or is made of such a bound."""

    @property
    def differentiates_log_prob(self) -> bool:
        """Whether the gradient goes through log q(z | x) or log p(z) at samples z: wrong of layers where it jumps."""
        return True

    @property
    def needs_closed_form(self) -> bool:
        """Whether the divergence of posterior from prior must have one."""
        return False

    @abstractmethod
    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The loss, a scalar: nats a sample, the mean over the batch; and its terms, among them `elbo` or `bound`."""

    def learn(self, num_train: int) -> None:
        """Told once before training: the number of training samples. Most bounds need not know."""

    def check(self, batch_size: int, num_train: int) -> None:
        """Raise `UserError` if batches do not do; told before training. Most bounds do not mind.

        Args:
            batch_size: samples of a batch, of all processes.
            num_train: training samples there are.
        """


def check_batch(bound: Bound, batch_size: int, num_train: int) -> None:
    """Raise `UserError` unless the samples of a batch, of all processes, can be compared."""
    if not 2 <= batch_size <= num_train:
        raise UserError(
            f"the bound {type(bound).__name__} compares the samples of a batch, which has {batch_size} of {num_train}:"
            " make data.init_args.batch_size at least 2 and at most the number of training samples"
        )
