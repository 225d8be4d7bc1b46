"""A classifier in the discriminator, and a generator that wants its samples classified as asked."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot, relu

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.auxiliary.base import AuxiliaryLoss
from lightning_gen.networks.base import Judgement


class _Classification(AuxiliaryLoss, ABC):
    """Weighted mean costs of the class logits.

    Args:
        real_weight: of real samples in the discriminator's loss, ≥ 0.
        fake_weight: of generated samples in the discriminator's loss, ≥ 0.
        generator_weight: of generated samples in the generator's loss, ≥ 0.

    Raises:
        UserError: if a weight is below 0.
    """

    takes_attributes = True

    def __init__(self, real_weight: float = 1.0, fake_weight: float = 1.0, generator_weight: float = 1.0) -> None:
        super().__init__()
        check_at_least(self, 0, real_weight=real_weight, fake_weight=fake_weight, generator_weight=generator_weight)
        self.real_weight = real_weight
        self.fake_weight = fake_weight
        self.generator_weight = generator_weight

    def discriminator(self, real: Judgement, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """Weighted cost of real and of generated samples."""
        return self.real_weight * self.cost(real, y) + self.fake_weight * self.cost(fake, y)

    def generator(self, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """Weighted cost of generated samples."""
        return self.generator_weight * self.cost(fake, y)

    def cost(self, judged: Judgement, y: Tensor) -> Tensor:
        """Mean over the batch of the cost of (B,) classes, or of the sum of those of (B, K) attributes."""
        assert judged.logits is not None
        return self.of_attributes(judged.logits, y) if y.is_floating_point() else self.of_classes(judged.logits, y)

    @abstractmethod
    def of_classes(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cost of (B, K) logits where (B,) classes are right."""

    @abstractmethod
    def of_attributes(self, logits: Tensor, y: Tensor) -> Tensor:
        """Mean cost of (B, K) logits where (B, K) attributes hold or not, summed over attributes."""

    def check(self, judged: Judgement) -> str | None:
        """Logits are needed."""
        if judged.logits is None:
            return "the discriminator does not classify: set model.init_args.discriminator.init_args.head to Classifier"
        return None


class AuxiliaryClassifier(_Classification):
    """AC-GAN's log-likelihood of the right class (Odena, Olah, Shlens, ICML 2017, eq. 3).

    L_C = −E[log P(C = y | x)] − E[log P(C = y | x̂)];  attributes are independent, and their log-likelihoods add up.

    Args:
        real_weight: of real samples in the discriminator's loss, ≥ 0.
        fake_weight: of generated samples in the discriminator's loss, ≥ 0.
        generator_weight: of generated samples in the generator's loss, ≥ 0.
    """

    def of_classes(self, logits: Tensor, y: Tensor) -> Tensor:
        """−E[log softmax(logits)_y]."""
        return cross_entropy(logits, y)

    def of_attributes(self, logits: Tensor, y: Tensor) -> Tensor:
        """−E[Σ_k log P(y_k | x)]."""
        return binary_cross_entropy_with_logits(logits, y.to(logits.dtype), reduction="sum") / len(logits)


class MultiHinge(_Classification):
    """The multi-class hinge of Crammer and Singer (JMLR 2001), as Kavalerov et al. (WACV 2021, §3) use it in GANs.

    E[max(0, 1 − C_y(x) + max_{k≠y} C_k(x))].  The paper's discriminator has a further class "generated" in place of a
    score; here the score stays and the K classes are the hinge's. Attributes have a binary hinge each.

    Args:
        real_weight: of real samples in the discriminator's loss, ≥ 0.
        fake_weight: of generated samples in the discriminator's loss, ≥ 0; none in the paper.
        generator_weight: of generated samples in the generator's loss, ≥ 0.
    """

    def __init__(self, real_weight: float = 1.0, fake_weight: float = 0.0, generator_weight: float = 1.0) -> None:
        super().__init__(real_weight, fake_weight, generator_weight)

    def of_classes(self, logits: Tensor, y: Tensor) -> Tensor:
        """E[max(0, 1 − C_y + max_{k≠y} C_k)]."""
        right = one_hot(y, logits.shape[1]).bool()
        best_wrong = logits.masked_fill(right, -float("inf")).amax(dim=1)
        return relu(1.0 - logits.gather(1, y[:, None]).squeeze(1) + best_wrong).mean()

    def of_attributes(self, logits: Tensor, y: Tensor) -> Tensor:
        """E[Σ_k max(0, 1 − (2 y_k − 1) C_k)]."""
        return relu(1.0 - (2.0 * y - 1.0) * logits).sum(dim=1).mean()
