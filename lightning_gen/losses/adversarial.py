"""Adversarial losses: what the two players minimise, from the scores of real and of generated samples.

Notation: D(x) is the discriminator's score (a logit), σ the logistic function, x ~ data, x̂ ~ generator.
"""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import relu, softplus


class AdversarialLoss(ABC):
    """A pair of losses; each takes (B,) scores and returns a scalar, the mean over the batch."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator, from scores of real and of generated samples."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """Loss of the generator, from scores of generated samples."""


class _Logistic(AdversarialLoss, ABC):
    """The discriminator as a classifier of real against generated (Goodfellow et al., NeurIPS 2014, eq. 1)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """−E[log σ(D(x))] − E[log(1 − σ(D(x̂)))]."""
        return softplus(-real).mean() + softplus(fake).mean()


class Minimax(_Logistic):
    """The original game (Goodfellow et al., NeurIPS 2014, eq. 1).

    min_G max_D  E[log σ(D(x))] + E[log(1 − σ(D(x̂)))]
    """

    def generator(self, fake: Tensor) -> Tensor:
        """E[log(1 − σ(D(x̂)))]: saturates when the discriminator wins."""
        return -softplus(fake).mean()


class NonSaturating(_Logistic):
    """The original game, with a generator's gradient that does not vanish (Goodfellow et al., NeurIPS 2014, §3)."""

    def generator(self, fake: Tensor) -> Tensor:
        """−E[log σ(D(x̂))]."""
        return softplus(-fake).mean()


class Hinge(AdversarialLoss):
    """The hinge loss (Lim, Ye, arXiv:1705.02894; Miyato et al., ICLR 2018, eqs. 16–17)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[max(0, 1 − D(x))] + E[max(0, 1 + D(x̂))]."""
        return relu(1.0 - real).mean() + relu(1.0 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        """−E[D(x̂)]."""
        return -fake.mean()
