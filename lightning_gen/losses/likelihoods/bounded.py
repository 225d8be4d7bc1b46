"""A Gaussian likelihood whose mean is an image without being cut off."""

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods.gaussian import Gaussian
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class BoundedGaussian(Gaussian):
    """N(x; μ, σ²) with one σ that is given and μ = tanh(output), between −1 and 1 as images are.

    What `Gaussian` is trained by may lie outside, and is clamped where it is shown; here the two are the same.

    Args:
        scale: σ, in units of x, > 0.

    Raises:
        UserError: if the scale is not above 0.
    """

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats, of a density with respect to x, from (N, 1, …) outputs and (N, …) samples."""
        return super().forward(full(parameters).tanh(), x)

    def expectation(self, parameters: Tensor) -> Tensor:
        """μ."""
        return parameters[:, 0].tanh()

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """μ + σε, clamped."""
        return super().draw(full(parameters).tanh(), noise)

    def check(self, x: Tensor) -> None:
        """Values must lie between −1 and 1."""
        super().check(x)
        if bool((x.abs() > 1).any()):
            raise UserError(
                f"the likelihood BoundedGaussian has means from -1 to 1, but data has values from {x.min():.4g} to"
                f" {x.max():.4g}: use Gaussian"
            )
