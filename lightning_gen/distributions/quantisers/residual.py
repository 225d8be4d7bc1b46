"""Residual quantisation: each codebook quantises what the ones before it left over."""

from functools import reduce
from operator import add
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from lightning_gen.distributions.quantisers.base import Quantised, Quantiser, map_of, rows_of, straight_through
from lightning_gen.distributions.quantisers.codebook import EMACodebook, check_codebook
from lightning_gen.distributions.quantisers.usage import usage_terms
from lightning_gen.losses.arguments import check_at_least


class ResidualQuantiser(Quantiser):
    """L codes a position, coarse to fine; what they stand for is added up.

        r⁰ = v,    eˡ the code nearest to rˡ⁻¹,    rˡ = rˡ⁻¹ − eˡ,    z = Σ_l eˡ

    Loss: β Σ_l mean (rˡ⁻¹ − sg[eˡ])², which is the distance from v to each partial sum (Lee et al., "Autoregressive
    Image Generation using Residual Quantization", CVPR 2022, section 3.1). Each level has a codebook of its own, as in
    SoundStream (Zeghidour et al., 2021, section III-C), where Lee et al. share one. Codebooks follow moving averages,
    see `EMACodebook`.

    Args:
        num_features: channels F of the features.
        num_codes: K of each level.
        dim: length d of a code.
        num_levels: L ≥ 1.
        decay: γ of the averages, in [0, 1).
        commitment: β ≥ 0.
        dead_after: updates without a use after which a code moves to a residual of the batch; None to leave it.
        kmeans_iterations: codebooks start with so many iterations of k-means on the first batch; 0 starts from
            N(0, I/d).

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        num_features: int,
        num_codes: int = 512,
        dim: int = 64,
        num_levels: int = 4,
        decay: float = 0.99,
        commitment: float = 0.25,
        dead_after: int | None = 100,
        kmeans_iterations: int = 10,
    ) -> None:
        super().__init__(num_features)
        check_codebook(self, num_codes, dim, kmeans_iterations, decay, dead_after)
        check_at_least(self, 1, num_levels=num_levels)
        check_at_least(self, 0, commitment=commitment)
        self.num_codes, self.latent_dim, self.num_levels, self.commitment = num_codes, dim, num_levels, commitment
        self.project = nn.Conv2d(num_features, dim, 1)
        books = (EMACodebook(num_codes, dim, kmeans_iterations, decay, dead_after) for _ in range(num_levels))
        self.codebooks = nn.ModuleList(books)

    def forward(self, h: Tensor) -> Quantised:
        """Quantise (B, F, h, w) features; in training mode the codebooks learn from them."""
        v = rows_of(self.project(h))
        residual, loss = v, v.new_zeros(())
        parts, codes, counts = [], [], []
        for codebook in self.levels:
            e, found, counted = codebook(residual)
            loss = loss + self.commitment * mse_loss(residual, e)
            residual = residual - e
            parts.append(e)
            codes.append(found)
            counts.append(counted)
        z = straight_through(reduce(add, parts), v)
        return Quantised(map_of(z, h), map_of(torch.stack(codes, dim=-1), h), loss, usage_terms(torch.stack(counts)))

    def lookup(self, codes: Tensor) -> Tensor:
        """The sum of the levels' vectors."""
        levels = zip(self.levels, codes.flatten(2).unbind(1), strict=True)
        return map_of(reduce(add, [codebook.lookup(level) for codebook, level in levels]), codes)

    @property
    def levels(self) -> list[EMACodebook]:
        """Codebooks, coarse to fine."""
        return cast(list[EMACodebook], list(self.codebooks))

    def check(self, num_vectors: int) -> None:
        """K-means needs as many vectors as codes."""
        for codebook in self.levels:
            codebook.check(type(self).__name__, num_vectors)
