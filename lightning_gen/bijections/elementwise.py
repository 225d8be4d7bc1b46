"""Bijections of each entry by itself, with nothing to learn."""

from math import log

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_gen.bijections.flat import FlatBijection
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above


class Logit(FlatBijection):
    """From [-1, 1] to R: the logit of α + (1 − 2α) u, u = (x + 1)/2 (Papamakarios et al., NeurIPS 2017, appendix E).

    RealNVP (Dinh et al., ICLR 2017, §4.1) has α + (1 − α) u, which is infinite at u = 1. What lies outside by more than
    α / (1 − 2α) has no logit; noise may well become an x outside [-1, 1] by as much.

    Args:
        sample_shape: of x without the batch.
        num_features: not used.
        alpha: α in (0, ½): 0.05 of natural images, 1e-6 of MNIST in these papers.

    Raises:
        UserError: if α is out of its range; before training, if data are.
    """

    def __init__(self, sample_shape: tuple[int, ...], num_features: int | None = None, alpha: float = 0.05) -> None:
        super().__init__(sample_shape, num_features)
        if not 0 < alpha < 0.5:
            raise UserError(f"Logit.alpha is {alpha}: it must be above 0 and below 0.5, such as 0.05")
        self.alpha = alpha
        self.slope = (1 - 2 * alpha) / 2
        """∂p/∂x of p = α + (1 − 2α) u."""

    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """The logits."""
        p = self.alpha + self.slope * (x + 1)
        z = p.log() - (-p).log1p()
        return z, -self._log_slopes(z)

    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Back, by the logistic function."""
        return (z.sigmoid() - self.alpha) / self.slope - 1, self._log_slopes(z)

    def _log_slopes(self, z: Tensor) -> Tensor:
        """Σ log ∂x/∂z, with its digits kept where the function is flat."""
        return (logsigmoid(z) + logsigmoid(-z)).sum(-1) - self.dim * log(self.slope)

    def check(self, x: Tensor) -> None:
        """Samples must be in [-1, 1]."""
        if x.numel() and not bool((x.abs() <= 1).all()):
            raise UserError(
                f"the bijection Logit is of values from -1 to 1, but data has some from {float(x.min()):.4g} to"
                f" {float(x.max()):.4g}: leave it out, or use data in that range, such as images"
            )


class Standardise(FlatBijection):
    """(x − mean) / std, so that samples have about the extent of the noise; splines need that within their bound.

    Args:
        sample_shape: of x without the batch.
        num_features: not used.
        mean: what is subtracted, one number or one an entry of the flattened sample.
        std: what is divided by, likewise; > 0.

    Raises:
        UserError: if a number is out of its range, or there are as many as neither one nor D.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        sample_shape: tuple[int, ...],
        num_features: int | None = None,
        mean: float | list[float] = 0.0,
        std: float | list[float] = 1.0,
    ) -> None:
        super().__init__(sample_shape, num_features)
        self.register_buffer("shift", self._entries("mean", mean))
        self.register_buffer("scale", self._entries("std", std))
        check_above(self, 0, std=float(self.scale.min()))

    def _entries(self, key: str, value: float | list[float]) -> Tensor:
        """(D,)."""
        numbers = torch.as_tensor(value, dtype=torch.get_default_dtype())
        if numbers.ndim and numbers.shape != (self.dim,):
            raise UserError(
                f"Standardise.{key} has {len(numbers)} numbers, but a sample has {self.dim}: give one, or one an entry"
            )
        return numbers.expand(self.dim).clone()

    def to_noise(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Standardised."""
        return (x - self.shift) / self.scale, -self.scale.log().sum().expand(len(x))

    def to_sample(self, z: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Back."""
        return self.shift + self.scale * z, self.scale.log().sum().expand(len(z))
