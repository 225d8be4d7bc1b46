"""Convolutions that can be inverted."""

import torch
from torch import Tensor, nn
from torch.linalg import solve_triangular

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.image.shapes import image_shape
from lightning_gen.precision import exact, full


class InvertibleConvolution(Bijection):
    """A convolution of 1×1 pixels: z = W x at each pixel (Kingma, Dhariwal, "Glow", NeurIPS 2018, §3.2).

        W = P L (U + diag(±exp s)),    log |det ∂z/∂x| = H · W · Σ s    (eqs. 10 and 11)

    with L lower triangular with ones on its diagonal, U strictly upper triangular, and the permutation P and the signs
    fixed. W starts as a random rotation.

    Args:
        sample_shape: (C, H, W).
        num_features: of features, which play no part.

    Raises:
        UserError: if samples are no images.
    """

    permutation: Tensor
    signs: Tensor

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None) -> None:
        super().__init__(sample_shape, num_features)
        channels, height, width = image_shape(self, sample_shape)
        self.pixels = height * width
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = (part.to(torch.get_default_dtype()) for part in torch.linalg.lu(rotation))
        diagonal = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", diagonal.sign())
        self.log_scale = nn.Parameter(diagonal.abs().log())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag(±exp s), (C, C)."""
        lower = self.lower.tril(-1) + torch.eye(len(self.lower), dtype=self.lower.dtype, device=self.lower.device)
        return lower, self.upper.triu(1) + torch.diag(self.signs * self.log_scale.exp())

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """W x, and H · W · Σ s."""
        with exact(x):
            lower, upper = self.factors()
            return _at_pixels(self.permutation @ lower @ upper, full(x)), self._log_det(x)

    def inverse(self, z: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """W⁻¹ z, and −H · W · Σ s."""
        with exact(z):
            lower, upper = self.factors()
            below = solve_triangular(lower, self.permutation.mT, upper=False, unitriangular=True)
            return _at_pixels(solve_triangular(upper, below, upper=True), full(z)), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.pixels * self.log_scale.sum()).expand(len(x))


def _at_pixels(weight: Tensor, x: Tensor) -> Tensor:
    """A matrix (C, C) times (B, C, H, W). Not by `conv2d`, which has 10 bits of mantissa on GPUs unless told not to."""
    return (weight @ x.flatten(2)).view_as(x)
