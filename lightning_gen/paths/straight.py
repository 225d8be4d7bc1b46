"""Straight paths."""

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.paths.base import ProbabilityPath


class ConditionalOptimalTransport(ProbabilityPath):
    """x_t = t x₁ + (1 − (1 − σ_min) t) x₀, at constant velocity.

    Each is the optimal transport of N(0, I) to N(x₁, σ_min² I) (Lipman et al., ICLR 2023, arXiv:2210.02747, eqs. 20–23:
    "FM w/ OT"). With σ_min = 0 it is rectified flow (Liu, Gong, Liu, ICLR 2023, arXiv:2209.03003) and, with the
    coupling `MinibatchOptimalTransport`, OT-CFM (Tong et al., TMLR 2024, arXiv:2302.00482).

    Args:
        sigma_min: standard deviation around each sample at t = 1, in [0, 1).

    Raises:
        UserError: if it is out of its range.
    """

    def __init__(self, sigma_min: float = 0.0) -> None:
        if not 0 <= sigma_min < 1:
            raise UserError(f"ConditionalOptimalTransport.sigma_min is {sigma_min}: it must be in [0, 1)")
        self.sigma_min = sigma_min

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Both linear in t."""
        return t, 1 - (1 - self.sigma_min) * t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Constant."""
        return torch.ones_like(t), torch.full_like(t, self.sigma_min - 1)
