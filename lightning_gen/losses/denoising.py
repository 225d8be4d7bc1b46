"""How denoisers are trained: at which times, and how much an error counts there.

Notation: x_t = α x_0 + σ ε, SNR = α²/σ², D(x_t) = c_skip x_t + c_out F, so ‖D − x_0‖² = c_out² ‖F − target‖².
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_gen.losses.arguments import check_above
from lightning_gen.schedules.base import NoiseSchedule


class DenoisingLoss(ABC):
    """E_t[w(t) · mean (F − target)²], the mean over the D entries of a sample, where papers often have the sum.

    Adam does not see the difference; the learning rates of other optimisers, and clipped gradients, do.
    """

    def times(self, u: Tensor, schedule: NoiseSchedule) -> Tensor:
        """(B,) times from uniform numbers u in (0, 1): spread as the schedule has it, unless a loss says else."""
        return schedule.spread(u)

    @abstractmethod
    def weight(self, snr: Tensor, c_out: Tensor) -> Tensor:
        """w, of the squared error of the network's output, (B,)."""

    def __call__(self, output: Tensor, target: Tensor, snr: Tensor, c_out: Tensor) -> Tensor:
        """(B,) losses.

        Args:
            output: (B, …) what the network says.
            target: (B, …) what it is to say.
            snr: (B,) α²/σ².
            c_out: (B,) by which the output is scaled in the denoised sample.
        """
        return self.weight(snr, c_out) * (output - target).square().flatten(1).mean(1)


class SimpleLoss(DenoisingLoss):
    """w = 1: L_simple(θ) = E_{t, x_0, ε}‖ε − ε_θ(x_t, t)‖², or the same of whatever the network predicts.

    Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020, arXiv:2006.11239, eq. 14.
    """

    def weight(self, snr: Tensor, c_out: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(snr)


class EDMLoss(DenoisingLoss):
    """ln(σ/α) ~ N(P_mean, P_std²), λ(σ) = 1/c_out², which makes w = 1.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
    arXiv:2206.00364, eq. 8 and table 1. Noise beyond that of the schedule's ends is replaced by the end's.

    Args:
        P_mean: mean of ln(σ/α).
        P_std: its standard deviation, > 0.

    Raises:
        UserError: if P_std is not positive.
    """

    def __init__(self, P_mean: float = -1.2, P_std: float = 1.2) -> None:
        check_above(self, 0, P_std=P_std)
        self.P_mean, self.P_std = P_mean, P_std

    def times(self, u: Tensor, schedule: NoiseSchedule) -> Tensor:
        """Where σ/α = exp(P_mean + P_std Φ⁻¹(u))."""
        edge = 1 - 2.0**-23  # beyond which float32 has Φ⁻¹(u) = ±∞: 5.3 standard deviations
        normal = 2**0.5 * torch.erfinv((2 * u - 1).clamp(-edge, edge))
        return schedule.time_of((self.P_mean + self.P_std * normal).exp())

    def weight(self, snr: Tensor, c_out: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(snr)


class MinSNR(DenoisingLoss):
    """min(SNR, γ) · ‖D − x_0‖², so w = min(SNR, γ) c_out²: 1 ∧ γ/SNR of ε, (SNR ∧ γ)/(SNR + 1) of v.

    Source: Hang et al., "Efficient diffusion training via Min-SNR weighting strategy", ICCV 2023, arXiv:2303.09556,
    §3.4.

    Args:
        gamma: γ, > 0.

    Raises:
        UserError: if γ is not positive.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        check_above(self, 0, gamma=gamma)
        self.gamma = gamma

    def weight(self, snr: Tensor, c_out: Tensor) -> Tensor:
        """min(SNR, γ) c_out²."""
        return snr.clamp(max=self.gamma) * c_out.square()
