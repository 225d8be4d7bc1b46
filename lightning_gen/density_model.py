"""`DensityModel`: what families share that compute log p(x) and are trained by it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_gen.dequantisation import Dequantisation
from lightning_gen.dequantised import DequantisedDensity
from lightning_gen.errors import UserError
from lightning_gen.held_out import HELD_OUT_SEED
from lightning_gen.losses.likelihoods import bits_per_dim
from lightning_gen.model import Batch, Terms
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.one_loss import OneLossModel

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class DensityModel(DequantisedDensity, OneLossModel, ABC):
    """A model that is trained by −log p(x | y), nats a sample; a family says what log p is, and how to draw from it.

    Of discrete data whose densities are modelled, the bound of `DequantisedDensity` is what is maximised.

    Args:
        sample_shape: of one sample, such as [1, 8, 8].
        dequantisation: of discrete data whose densities are modelled; None where log p(x) is that of probabilities, or
            the data are continuous.
        **kwargs: of `OneLossModel`.
    """

    def __init__(
        self, sample_shape: Sequence[int], dequantisation: Dequantisation | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not sample_shape or min(sample_shape) < 1:
            raise UserError(
                f"model.init_args.sample_shape is {list(sample_shape)}: give the shape of one sample, such as [1, 8, 8]"
            )
        self.sample_shape = tuple(sample_shape)
        self.dequantisation = dequantisation

    # ---------------------------------------------------------------- the density

    @abstractmethod
    def draw_values(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws from p(x | y), (n, …), one a stream, in the form that `log_p` takes."""

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws, of discrete values where the data are discrete."""
        return self.samples_of_values(self.draw_values(noise, y))

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """−log p(x | y) in nats a sample, or its bound with one draw of the values."""
        values, log_q = self.values_of(batch["x"], None)
        return (log_q - self.log_p(values, self.condition_of(batch))).mean(), {}

    # ---------------------------------------------------------------- numbers about data

    @property
    def held_out_names(self) -> tuple[str, ...]:
        """−log p(x), or its bound with one draw; of discrete data in bits an entry, too."""
        return ("val_nats", "val_bits_per_dim") if self.discrete else ("val_nats",)

    def held_out(self, batch: Batch) -> Terms:
        """(n,) nats a sample, and nats / (D ln 2) of its D entries."""
        x, y = batch["x"], self.condition_of(batch)
        if self.exact_likelihood:
            nats = -self.log_prob(x, y)
        else:
            nats = -self.log_likelihood(x, y, Noise(sample_seeds(HELD_OUT_SEED, batch["index"]), self.device), 1)
        return {"val_nats": nats, "val_bits_per_dim": bits_per_dim(nats, math.prod(self.sample_shape))}

    # ---------------------------------------------------------------- set-up

    def made_shape(self) -> tuple[int, ...]:
        """`sample_shape`; what checks the data sees whether the network agrees."""
        return self.sample_shape

    @torch.no_grad()
    def check_data(self, data: "DataModule") -> None:
        """Data must have the shape and the levels that the model is made for, and a finite log-density."""
        if (given := tuple(data.sample_shape)) != self.sample_shape:
            raise UserError(
                f"model.init_args.sample_shape is {list(self.sample_shape)} but data gives samples of shape"
                f" {list(given)}: make the two agree"
            )
        super().check_data(data)
        examples = {name: value.to(self.device) for name, value in data.examples(256).items()}
        self.check_values(examples["x"])

    def check_values(self, x: Tensor) -> None:
        """Raise `UserError` if samples (n, …) of the data show that the model is not made for them."""
        if self.dequantisation is not None:
            self.dequantisation.check(x)
