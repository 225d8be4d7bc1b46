"""Consistency: what should not change the score, and what should change the sample."""

import torch
from torch import Tensor

from lightning_gen.augmentation.base import Augmentation
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.penalties.base import DiscriminatorTurn, GeneratorPenalty, GeneratorTurn, Penalty


class Consistency(Penalty):
    """Scores of real samples that augmentation does not change (CR-GAN: Zhang et al., ICLR 2020, eq. 2).

    λ E ‖D(x) − D(T(x))‖².  D(x) is the score that the loss has used.

    Args:
        augmentation: T, used for this term alone.
        weight: λ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "consistency"
    full_precision = False

    def __init__(self, augmentation: Augmentation, weight: float = 10.0, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        self.augmentation = augmentation
        self.weight = weight

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """λ E ‖D(x) − D(T(x))‖² over the real batch."""
        changed = turn.discriminator(self.augmentation(turn.real), turn.y)
        return self.weight * (turn.real_scores - changed).square().mean()


class BalancedConsistency(Penalty):
    """Scores of real and of generated samples that augmentation does not change (bCR: Zhao et al., AAAI 2021, §3.1).

    λ_real E ‖D(x) − D(T(x))‖² + λ_fake E ‖D(x̂) − D(T(x̂))‖².  D(x) and D(x̂) are the scores that the loss has used.

    Args:
        augmentation: T, used for this term alone.
        real_weight: λ_real, ≥ 0.
        fake_weight: λ_fake, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "balanced_consistency"
    full_precision = False

    def __init__(
        self, augmentation: Augmentation, real_weight: float = 10.0, fake_weight: float = 10.0, interval: int = 1
    ) -> None:
        super().__init__(interval)
        check_at_least(self, 0, real_weight=real_weight, fake_weight=fake_weight)
        self.augmentation = augmentation
        self.real_weight = real_weight
        self.fake_weight = fake_weight

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """The two terms over the batch."""
        real = turn.discriminator(self.augmentation(turn.real), turn.y)
        fake = turn.discriminator(self.augmentation(turn.fake), turn.y)
        real_term = (turn.real_scores - real).square().mean()
        return self.real_weight * real_term + self.fake_weight * (turn.fake_scores - fake).square().mean()


class LatentConsistency(Penalty):
    """Scores that a small change of the latent does not change (zCR: Zhao et al., AAAI 2021, §3.2).

    λ_dis E ‖D(G(z)) − D(G(z + Δz))‖²,  Δz ~ N(0, σ² I).  Both samples are made without augmentation, whose random
    numbers would otherwise count as a change of the latent; a generator that injects noise (StyleGAN2) adds its own.

    Args:
        weight: λ_dis, ≥ 0.
        sigma: σ, ≥ 0.
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "latent_consistency"
    full_precision = False

    def __init__(self, weight: float = 5.0, sigma: float = 0.03, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight, sigma=sigma)
        self.weight = weight
        self.sigma = sigma

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """λ_dis E ‖D(G(z)) − D(G(z + Δz))‖² over the batch."""
        with torch.no_grad():
            here, there = turn.generator(turn.z, turn.y), turn.generator(perturb(turn.z, self.sigma), turn.y)
        change = turn.discriminator(here, turn.y) - turn.discriminator(there, turn.y)
        return self.weight * change.square().mean()


class LatentDiversity(GeneratorPenalty):
    """Samples that a small change of the latent does change (zCR: Zhao et al., AAAI 2021, §3.2).

    −λ_gen E ‖G(z) − G(z + Δz)‖²,  Δz ~ N(0, σ² I), the squared difference a mean over a sample's entries. It wants
    `LatentConsistency` beside it.

    Args:
        weight: λ_gen, ≥ 0.
        sigma: σ, ≥ 0.
        interval: generator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "latent_diversity"

    def __init__(self, weight: float = 0.5, sigma: float = 0.03, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight, sigma=sigma)
        self.weight = weight
        self.sigma = sigma

    def forward(self, turn: GeneratorTurn) -> Tensor:
        """−λ_gen E ‖G(z) − G(z + Δz)‖² over the batch; both in float32, as the difference is small."""
        here, there = turn.generator(turn.z, turn.y), turn.generator(perturb(turn.z, self.sigma), turn.y)
        return -self.weight * (here - there).square().mean()


def perturb(z: Tensor, sigma: float) -> Tensor:
    """Return z + Δz, Δz ~ N(0, σ² I), of (B, d) latents."""
    return z + sigma * torch.randn_like(z)
