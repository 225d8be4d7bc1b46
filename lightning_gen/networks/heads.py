"""Discriminator heads: what is read off the last features beside the score.

A discriminator takes a factory, `head: Callable[[int, int | None], Head] = Projection`, and ends in
`self.head = head(num_features, num_classes)`; in YAML a class name, or a class path with further arguments.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.base import Judgement
from lightning_gen.networks.conditioning import Embed


class Head(nn.Module, ABC):
    """Turns features into a judgement.

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, K; None for an unconditional discriminator.
    """

    def __init__(self, num_features: int, num_classes: int | None = None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.score = nn.Linear(num_features, 1)

    @abstractmethod
    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features, of samples of (B,) classes or (B, K) attributes."""


class Projection(Head):
    """A linear score plus ⟨embed(y), h⟩ (Miyato, Koyama, "cGANs with Projection Discriminator", ICLR 2018, eq. 3).

    Without classes it is the linear score alone.

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, K; None for an unconditional discriminator.
    """

    def __init__(self, num_features: int, num_classes: int | None = None) -> None:
        super().__init__(num_features, num_classes)
        self.embed = Embed(num_classes, num_features) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, num_features**-0.5)  # a linear map of the features, like the score

    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features: scores and the features."""
        scores = self.score(h).squeeze(1)
        if self.embed is not None:
            assert y is not None
            scores = scores + (self.embed(y) * h).sum(dim=1)
        return Judgement(scores, h)


class Classifier(Head):
    """A linear score that does not see the classes, and a linear classifier (AC-GAN: Odena et al., ICML 2017, §3).

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, K.

    Raises:
        UserError: without classes.
    """

    def __init__(self, num_features: int, num_classes: int | None = None) -> None:
        super().__init__(num_features, num_classes)
        self.classify = nn.Linear(num_features, _needed(num_classes, "Classifier"))

    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features: scores, the features and (B, K) logits of the classes."""
        return Judgement(self.score(h).squeeze(1), h, logits=self.classify(h))


class Contrastive(Head):
    """A linear score, and the cosines of an embedding of the sample to one proxy a class.

    The head of ContraGAN (Kang, Park, NeurIPS 2020, §3) and of ReACGAN (Kang et al., NeurIPS 2021, §3).

    Args:
        num_features: length F of the features.
        num_classes: number of classes, or of attributes, K.
        dim: length d of the embedding.

    Raises:
        UserError: without classes.
    """

    def __init__(self, num_features: int, num_classes: int | None = None, dim: int = 512) -> None:
        super().__init__(num_features, num_classes)
        self.embed = nn.Linear(num_features, dim)
        self.proxies = Embed(_needed(num_classes, "Contrastive"), dim)

    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features: scores, the features, (B, d) unit embeddings, and (B, K) cosines as logits."""
        embedding = nn.functional.normalize(self.embed(h), dim=1)
        proxies = nn.functional.normalize(self.proxies.weight, dim=1)
        return Judgement(self.score(h).squeeze(1), h, embedding @ proxies.T, embedding)


class Codes(Head):
    """A linear score, and the network Q that reads the latent codes off the sample (InfoGAN: Chen et al., NIPS 2016).

    Q shares the features and has one hidden layer (appendix C), here without its batch norm, which would let the
    samples of a batch interact under gradient penalties.

    Args:
        num_features: length F of the features.
        num_classes: values K of the categorical code; None for none.
        continuous: how many entries at the start of the latent are codes, c ≥ 0.
        width: units of Q's hidden layer.

    Raises:
        UserError: if there is no code at all.
    """

    def __init__(
        self, num_features: int, num_classes: int | None = None, continuous: int = 2, width: int = 128
    ) -> None:
        super().__init__(num_features, num_classes)
        if continuous < 0 or not (continuous or num_classes):
            raise UserError(
                f"Codes.continuous is {continuous}: it must be at least 1, or at least 0 where num_classes is set"
            )
        self.sizes = [num_classes or 0, continuous]
        self.read = nn.Sequential(nn.Linear(num_features, width), nn.LeakyReLU(0.1), nn.Linear(width, sum(self.sizes)))

    def forward(self, h: Tensor, y: Tensor | None = None) -> Judgement:
        """Judge (B, F) features: scores, the features, (B, K) logits and (B, c) means of the codes, where present."""
        logits, codes = torch.split(self.read(h), self.sizes, dim=1)
        return Judgement(
            self.score(h).squeeze(1),
            h,
            logits=logits if self.sizes[0] else None,
            codes=codes if self.sizes[1] else None,
        )


def _needed(num_classes: int | None, head: str) -> int:
    if not num_classes:
        raise UserError(
            f"head {head} needs classes, but num_classes is {num_classes}: set the number of classes, or use Projection"
        )
    return num_classes
