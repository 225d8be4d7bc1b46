"""Vector quantisation: the nearest of K learnt vectors stands for a feature vector.

van den Oord, Vinyals, Kavukcuoglu, "Neural Discrete Representation Learning", NIPS 2017.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from lightning_gen.distributions.quantisers.base import Quantised, Quantiser, map_of, rows_of, straight_through
from lightning_gen.distributions.quantisers.codebook import (
    Codebook,
    CosineCodebook,
    EMACodebook,
    LearntCodebook,
    check_codebook,
)
from lightning_gen.distributions.quantisers.usage import usage_terms
from lightning_gen.losses.arguments import check_at_least


class CodebookQuantiser(Quantiser, ABC):
    """Features v = W h + b of each position (a 1×1 convolution) take the nearest e of a codebook: z = e.

    The gradient of z is handed to v (straight-through), and the commitment loss keeps v near:

        β · mean (v − sg[e])²      (eq. 3, last term; the mean over positions and over the d numbers of a vector)

    Args:
        num_features: channels F of the features.
        codebook: of K vectors of length d.
        commitment: β ≥ 0.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(self, num_features: int, codebook: Codebook, commitment: float) -> None:
        super().__init__(num_features)
        check_at_least(self, 0, commitment=commitment)
        self.num_codes, self.latent_dim, self.commitment = codebook.num_codes, codebook.dim, commitment
        self.project = nn.Conv2d(num_features, codebook.dim, 1)
        self.codebook = codebook

    @abstractmethod
    def loss(self, v: Tensor, e: Tensor) -> Tensor:
        """What is added to the loss, from features and what stands for them, (B, h·w, d)."""

    def vectors(self, h: Tensor) -> Tensor:
        """What is quantised of features (B, F, h, w): (B, h·w, d)."""
        return rows_of(self.project(h))

    def forward(self, h: Tensor) -> Quantised:
        """Quantise (B, F, h, w) features; in training mode the codebook learns from them."""
        v = self.vectors(h)
        e, codes, counts = self.codebook(v)
        z = map_of(straight_through(e, v), h)
        terms = self.usage(codes) if counts is None else usage_terms(counts)
        return Quantised(z, map_of(codes[..., None], h), self.loss(v, e), terms)

    def lookup(self, codes: Tensor) -> Tensor:
        """The codebook's vectors."""
        return map_of(self.codebook.lookup(codes.flatten(1)), codes)

    def check(self, num_vectors: int) -> None:
        """K-means needs as many vectors as codes."""
        self.codebook.check(type(self).__name__, num_vectors)


class VectorQuantiser(CodebookQuantiser):
    """A codebook that follows exponential moving averages (appendix A.1; `EMACodebook`).

    Args:
        num_features: channels F of the features.
        num_codes: K.
        dim: length d of a code.
        decay: γ of the averages, in [0, 1).
        commitment: β ≥ 0.
        dead_after: updates without a use after which a code moves to a vector of the batch; None to leave it.
        kmeans_iterations: the codebook starts with so many iterations of k-means on the first batch; 0 starts from
            N(0, I/d).

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        num_features: int,
        num_codes: int = 512,
        dim: int = 64,
        decay: float = 0.99,
        commitment: float = 0.25,
        dead_after: int | None = 100,
        kmeans_iterations: int = 10,
    ) -> None:
        check_codebook(self, num_codes, dim, kmeans_iterations, decay, dead_after)
        codebook = self.make_codebook(num_codes, dim, kmeans_iterations, decay, dead_after)
        super().__init__(num_features, codebook, commitment)

    make_codebook: type[EMACodebook] = EMACodebook

    def loss(self, v: Tensor, e: Tensor) -> Tensor:
        """β · mean (v − sg[e])²."""
        return self.commitment * mse_loss(v, e)  # e has no gradient: it is a buffer


class CosineVectorQuantiser(VectorQuantiser):
    """As `VectorQuantiser`, with features and codes of unit length, compared by their cosine.

    Yu et al., "Vector-quantized Image Modeling with Improved VQGAN", ICLR 2022, on codebook learning. The features are
    v / ‖v‖, through which the gradient goes, too; the paper's codes are short, `dim` 32. Arguments as there.
    """

    make_codebook = CosineCodebook

    def vectors(self, h: Tensor) -> Tensor:
        """Of unit length."""
        return normalize(super().vectors(h), dim=-1)


class GradientVectorQuantiser(CodebookQuantiser):
    """A codebook that is a parameter, drawn to the features by a loss of its own, as first published.

        mean (sg[v] − e)²  +  β · mean (v − sg[e])²      (eq. 3)

    Args:
        num_features: channels F of the features.
        num_codes: K.
        dim: length d of a code.
        commitment: β ≥ 0.
        kmeans_iterations: the codebook starts with so many iterations of k-means on the first batch; 0 starts from
            N(0, I/d). Features soon leave where they started, and gradients follow slowly, so a wide start is better.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        num_features: int,
        num_codes: int = 512,
        dim: int = 64,
        commitment: float = 0.25,
        kmeans_iterations: int = 0,
    ) -> None:
        check_codebook(self, num_codes, dim, kmeans_iterations)
        super().__init__(num_features, LearntCodebook(num_codes, dim, kmeans_iterations), commitment)

    def loss(self, v: Tensor, e: Tensor) -> Tensor:
        """Mean (sg[v] − e)² + β · mean (v − sg[e])²."""
        return mse_loss(e, v.detach()) + self.commitment * mse_loss(v, e.detach())
