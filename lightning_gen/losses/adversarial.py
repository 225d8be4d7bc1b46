"""Adversarial losses: what the two players minimise, from the scores of real and of generated samples.

Notation: D(x) is the discriminator's score (a logit), σ the logistic function, x ~ data, x̂ ~ generator.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu, softplus

from lightning_gen.errors import UserError


class AdversarialLoss(ABC):
    """A pair of losses; each takes (B,) scores and returns a scalar, the mean over the batch.

    Attributes:
        relativistic: the generator's loss compares with real samples and needs their scores, too.
    """

    relativistic: ClassVar[bool] = False

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Loss of the discriminator, from scores of real and of generated samples."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Loss of the generator, from scores of generated samples, and of real ones if `relativistic`."""


class _Logistic(AdversarialLoss, ABC):
    """The discriminator as a classifier of real against generated (Goodfellow et al., NeurIPS 2014, eq. 1)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """−E[log σ(D(x))] − E[log(1 − σ(D(x̂)))]."""
        return softplus(-real).mean() + softplus(fake).mean()


class Minimax(_Logistic):
    """The original game (Goodfellow et al., NeurIPS 2014, eq. 1).

    min_G max_D  E[log σ(D(x))] + E[log(1 − σ(D(x̂)))]
    """

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """E[log(1 − σ(D(x̂)))]: saturates when the discriminator wins."""
        return -softplus(fake).mean()


class NonSaturating(_Logistic):
    """The original game, with a generator's gradient that does not vanish (Goodfellow et al., NeurIPS 2014, §3)."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """−E[log σ(D(x̂))]."""
        return softplus(-fake).mean()


class Hinge(AdversarialLoss):
    """The hinge loss (Lim, Ye, arXiv:1705.02894; Miyato et al., ICLR 2018, eqs. 16–17)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[max(0, 1 − D(x))] + E[max(0, 1 + D(x̂))]."""
        return relu(1.0 - real).mean() + relu(1.0 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """−E[D(x̂)]."""
        return -fake.mean()


class LeastSquares(AdversarialLoss):
    """Scores as a regression to targets (Mao et al., "Least Squares GANs", ICCV 2017, eq. 2; the defaults are eq. 9).

    With b − c = 1 and b − a = 2 it minimises a Pearson χ² divergence (§3.2): a, b, c = −1, 1, 0 (eq. 8).

    Args:
        a: what the discriminator should say of generated samples.
        b: what it should say of real ones.
        c: what the generator wants it to say of generated ones.

    Raises:
        UserError: if the discriminator's two targets are the same.
    """

    def __init__(self, a: float = 0.0, b: float = 1.0, c: float = 1.0) -> None:
        if a == b:
            raise UserError(f"LeastSquares.a is {a} and so is b: real and generated samples need different targets")
        self.a, self.b, self.c = a, b, c

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """½ E[(D(x) − b)²] + ½ E[(D(x̂) − a)²]."""
        return 0.5 * (real - self.b).square().mean() + 0.5 * (fake - self.a).square().mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """½ E[(D(x̂) − c)²]."""
        return 0.5 * (fake - self.c).square().mean()


class Wasserstein(AdversarialLoss):
    """The Kantorovich–Rubinstein dual of the earth mover's distance (Arjovsky et al., ICML 2017, eqs. 2–3).

    It holds for a 1-Lipschitz critic: clip its weights, or penalise its gradient.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """E[D(x̂)] − E[D(x)]."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """−E[D(x̂)]."""
        return -fake.mean()


class RelativisticPairing(AdversarialLoss):
    """Each real sample against one generated sample (RpGAN).

    Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019, §4.1; Huang et al., "The GAN is dead; long live
    the GAN!", NeurIPS 2024, eq. 2, with f(t) = −log(1 + e⁻ᵗ). Both players need as many real as generated samples.
    """

    relativistic = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """−E[log σ(D(x) − D(x̂))]."""
        return softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """−E[log σ(D(x̂) − D(x))]."""
        assert real is not None
        return softplus(real - fake).mean()


class RelativisticAverage(AdversarialLoss):
    """Each sample against the mean of the other kind, logistic (RaSGAN; Jolicoeur-Martineau, ICLR 2019, §4.3).

    The means are those of the scores given: a process's own share of the batch.
    """

    relativistic = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """−E[log σ(D(x) − E D(x̂))] − E[log(1 − σ(D(x̂) − E D(x)))]."""
        return softplus(fake.mean() - real).mean() + softplus(fake - real.mean()).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """−E[log σ(D(x̂) − E D(x))] − E[log(1 − σ(D(x) − E D(x̂)))]."""
        assert real is not None
        return self.discriminator(fake, real)


class TopK(AdversarialLoss):
    """The generator learns from the generated samples that score best (Sinha et al., NeurIPS 2020, §3).

    k = max(1, round(fraction · B)) of each batch that the loss is given; with a fraction of 1 nothing changes. The
    paper lets k fall slowly from the whole batch to half of it.

    Args:
        loss: the pair of losses; not a relativistic one, whose real scores would lose their partners.
        fraction: share of the generated samples to learn from, in (0, 1].

    Raises:
        UserError: if the loss is relativistic or the fraction out of its range.
    """

    def __init__(self, loss: AdversarialLoss, fraction: float = 1.0) -> None:
        if loss.relativistic:
            raise UserError(
                f"TopK.loss is {type(loss).__name__}, which compares generated with real samples: use one that is not"
                " relativistic"
            )
        if not 0 < fraction <= 1:
            raise UserError(f"TopK.fraction is {fraction}: it must be above 0 and at most 1")
        self.loss = loss
        self.fraction = fraction

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The loss's own, of all samples."""
        return self.loss.discriminator(real, fake)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The loss's own, of the k largest scores."""
        k = max(1, round(self.fraction * len(fake)))
        return self.loss.generator(fake.topk(k, sorted=False).values)
