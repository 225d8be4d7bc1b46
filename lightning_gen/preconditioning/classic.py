"""Networks that predict the noise, the sample, or what lies between them."""

import torch
from torch import Tensor

from lightning_gen.preconditioning.base import Preconditioning, Scales


class Epsilon(Preconditioning):
    """F predicts the noise: D(x) = (x − σ F) / α.

    Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020, arXiv:2006.11239, eqs. 9 and 12.
    """

    needs_signal = True

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Scales:
        """1/α, −σ/α, 1/√(α² + σ²)."""
        return Scales(1 / alpha, -sigma / alpha, 1 / torch.hypot(alpha, sigma))

    def target(self, x: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """ε."""
        return epsilon


class Velocity(Preconditioning):
    """F predicts v = (α ε − σ x_0) / √(α² + σ²), how x_t moves as noise turns into a sample: D(x) = α x − σ F.

    Source: Salimans, Ho, "Progressive distillation for fast sampling of diffusion models", ICLR 2022, arXiv:2202.00512,
    appendix D.
    """

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Scales:
        """α/r², −σ/r, 1/r with r = √(α² + σ²)."""
        r = torch.hypot(alpha, sigma)
        return Scales(alpha / r.square(), -sigma / r, 1 / r)

    def target(self, x: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """V."""
        return (alpha * epsilon - sigma * x) / torch.hypot(alpha, sigma)


class Sample(Preconditioning):
    """F predicts the sample: D(x) = F.

    Source: Salimans, Ho, ICLR 2022, arXiv:2202.00512, §4; Ho et al., NeurIPS 2020, §3.2.
    """

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Scales:
        """0, 1, 1/√(α² + σ²)."""
        return Scales(torch.zeros_like(alpha), torch.ones_like(alpha), 1 / torch.hypot(alpha, sigma))

    def target(self, x: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_0."""
        return x
