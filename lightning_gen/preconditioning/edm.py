"""Networks whose inputs and targets have unit variance whatever the noise."""

import torch
from torch import Tensor

from lightning_gen.losses.arguments import check_above
from lightning_gen.preconditioning.base import Preconditioning, Scales


class EDM(Preconditioning):
    """F predicts a mixture of sample and noise, of unit variance if the variance of the data is σ_data².

    With s = σ/α and x/α, for which table 1 is,

        c_skip = σ_data² / (s² + σ_data²),  c_out = s σ_data / √(s² + σ_data²),  c_in = 1 / √(s² + σ_data²)

    σ_data = 1 is `Velocity`, but for the sign. c_noise is `label` of the schedule: ¼ ln σ of `VarianceExploding`.

    Source: Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022,
    arXiv:2206.00364, eq. 7, table 1 and appendix B.6.

    Args:
        sigma_data: standard deviation of the data's entries, > 0.

    Raises:
        UserError: if it is not positive.
    """

    def __init__(self, sigma_data: float = 0.5) -> None:
        check_above(self, 0, sigma_data=sigma_data)
        self.sigma_data = sigma_data

    def __call__(self, alpha: Tensor, sigma: Tensor) -> Scales:
        """Of x itself, whose standard deviation r is √(σ² + α² σ_data²): α σ_data²/r², σ σ_data/r, 1/r."""
        r = torch.hypot(sigma, alpha * self.sigma_data)
        return Scales(alpha * self.sigma_data**2 / r.square(), sigma * self.sigma_data / r, 1 / r)

    def target(self, x: Tensor, epsilon: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """(σ x_0 − α σ_data² ε) / (σ_data r)."""
        r = torch.hypot(sigma, alpha * self.sigma_data)
        return (sigma * x - alpha * self.sigma_data**2 * epsilon) / (self.sigma_data * r)
