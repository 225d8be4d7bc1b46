"""Finite scalar quantisation: a few numbers, each rounded to a few values; there is nothing to learn."""

from math import prod

import torch
from torch import Tensor, nn

from lightning_gen.distributions.quantisers.base import Quantised, Quantiser, map_of, rows_of, straight_through
from lightning_gen.distributions.quantisers.usage import MOST_CODES
from lightning_gen.errors import UserError

_MARGIN = 1e-3  # how far the ends reach beyond the last value, relatively, so that it is reached at all


class FiniteScalarQuantiser(Quantiser):
    """Number i of a position is squashed to a range of L_i whole numbers and rounded; K = Π L_i.

        b_i = c_i tanh(v_i + atanh(o_i / c_i)) − o_i,    c_i = (L_i − 1)(1 + 10⁻³)/2,    z_i = round(b_i) / ⌊L_i / 2⌋

    with o_i = 0 for odd and ½ for even L_i, whose range is −L_i/2 … L_i/2 − 1; v = 0 gives b = 0. Source: Mentzer et
    al., "Finite Scalar Quantization: VQ-VAE Made Simple", ICLR 2024, section 3.1 and appendix A.1, whose code has tan
    where the inverse of tanh belongs. It adds nothing to the loss.

    Args:
        num_features: channels F of the features.
        levels: L_i ≥ 3; the paper recommends 5 and more, and [8, 6, 5], [8, 5, 5, 5], [7, 5, 5, 5, 5] for some 2⁸, 2¹⁰
            and 2¹² codes.

    Raises:
        UserError: if there are no levels, or any below 3, or more than 2²⁰ codes.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, num_features: int, levels: tuple[int, ...] = (8, 5, 5, 5)) -> None:
        super().__init__(num_features)
        if not levels or min(levels) < 3:
            raise UserError(
                f"FiniteScalarQuantiser.levels is {list(levels)}: it must be one or several numbers of at least 3, such"
                " as [8, 5, 5, 5]; LookupFreeQuantiser has 2 levels"
            )
        if prod(levels) > MOST_CODES:
            raise UserError(
                f"FiniteScalarQuantiser.levels is {list(levels)}, which makes {prod(levels)} codes: it must make"
                f" {MOST_CODES} at most"
            )
        self.num_codes, self.latent_dim = prod(levels), len(levels)
        self.project = nn.Conv2d(num_features, self.latent_dim, 1)
        places = [prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("basis", torch.tensor(places), persistent=False)

    def bound(self, v: Tensor) -> Tensor:
        """Squash (…, d) numbers to between the first and the last of their levels."""
        half = (self.levels - 1) * (1 + _MARGIN) / 2
        offset = (1 - self.levels % 2) / 2
        return half * (v + (offset / half).atanh()).tanh() - offset

    def forward(self, h: Tensor) -> Quantised:
        """Quantise (B, F, h, w) features."""
        bounded = self.bound(rows_of(self.project(h)))
        half_width = self.levels // 2
        rounded = bounded.round()
        codes = ((rounded.to(torch.int64) + half_width) * self.basis).sum(-1)
        z = map_of(straight_through(rounded, bounded) / half_width, h)
        return Quantised(z, map_of(codes[..., None], h), z.new_zeros(()), self.usage(codes))

    def lookup(self, codes: Tensor) -> Tensor:
        """The digits of the codes, the first level fastest."""
        half_width = self.levels // 2
        digits = codes.flatten(1)[..., None] // self.basis % self.levels
        return map_of((digits - half_width).to(self.project.weight.dtype) / half_width, codes)
