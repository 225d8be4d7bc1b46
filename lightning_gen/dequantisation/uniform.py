"""Uniform dequantisation."""

import torch
from torch import Tensor

from lightning_gen.dequantisation.base import Dequantisation
from lightning_gen.noise import Noise


class UniformDequantisation(Dequantisation):
    """u ~ U[0, 1) in each entry (Uria, Murray, Larochelle, "RNADE", NIPS 2013; Theis et al., ICLR 2016).

    Args:
        levels: L, ≥ 2: 256 for images stored as bytes.
    """

    def offsets(self, x: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """Uniform, of density 1."""
        u = torch.rand_like(x) if noise is None else noise.uniform(*x.shape[1:]).to(x)
        return u, x.new_zeros(len(x))
