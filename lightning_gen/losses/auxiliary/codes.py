"""InfoGAN: latent codes that can be read off the samples."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.auxiliary.base import AuxiliaryLoss
from lightning_gen.networks.base import Judgement


class MutualInformation(AuxiliaryLoss):
    """The variational bound on the mutual information of codes and samples (Chen et al., NIPS 2016, eqs. 5–6).

    Both players minimise −λ L_I(G, Q) = −λ E[log Q(c | G(z, c))], up to the entropy of the codes, which is constant.
    The class is a categorical code, drawn uniformly; the first entries of z are continuous ones, of which Q gives the
    means of Gaussians of unit variance.

    Args:
        class_weight: λ of the class, ≥ 0.
        code_weight: λ of the continuous codes, ≥ 0.

    Raises:
        UserError: if a weight is below 0.
    """

    draws_classes = True

    def __init__(self, class_weight: float = 1.0, code_weight: float = 0.1) -> None:
        super().__init__()
        check_at_least(self, 0, class_weight=class_weight, code_weight=code_weight)
        self.class_weight = class_weight
        self.code_weight = code_weight

    def discriminator(self, real: Judgement, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """−λ E[log Q(c | x̂)], which Q learns from generated samples alone."""
        return self.generator(fake, y, z)

    def generator(self, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """−λ E[log Q(c | x̂)]: cross-entropy of the class, and ½ Σ (c − μ)² of the continuous codes."""
        term = torch.zeros((), dtype=fake.scores.dtype, device=fake.scores.device)
        if fake.logits is not None:
            term = term + self.class_weight * cross_entropy(fake.logits, y)
        if fake.codes is not None:
            count = fake.codes.shape[1]
            if count > z.shape[1]:
                raise UserError(
                    f"the discriminator's head reads {count} continuous codes, but the generator's latent_dim is"
                    f" {z.shape[1]}: make it larger, or the head's continuous smaller"
                )
            term = term + self.code_weight * 0.5 * (z[:, :count] - fake.codes).square().sum(dim=1).mean()
        return term

    def check(self, judged: Judgement) -> str | None:
        """The class's logits, the codes' means, or both are needed."""
        if judged.logits is None and judged.codes is None:
            return "the discriminator reads no codes: set model.init_args.discriminator.init_args.head to Codes"
        return None
