"""`DensityModel`: what families share that compute log p(x) and are trained by it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.dequantisation import Dequantisation
from lightning_gen.errors import UserError
from lightning_gen.held_out import HELD_OUT_SEED
from lightning_gen.losses.likelihoods import bits_per_dim
from lightning_gen.model import Batch, Terms, evaluating
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.one_loss import OneLossModel
from lightning_gen.precision import full

if TYPE_CHECKING:
    from lightning_gen.data import DataModule


class DensityModel(OneLossModel, ABC):
    """A model that is trained by −log p(x | y), nats a sample; a family says what log p is, and how to draw from it.

    A density of discrete data, such as images of bytes, would grow without bound where it piles up on their values.
    Dequantisation makes continuous values v of them; log P(x) = log ∫ p(v) dv over the bin of x is then bounded by

        log P(x) ≥ E_{q(v | x)}[log p(v) − log q(v | x)]

    (Theis, van den Oord, Bethge, ICLR 2016; Ho et al., "Flow++", ICML 2019, eq. 8), which is what is maximised.

    Args:
        sample_shape: of one sample, such as [1, 8, 8].
        dequantisation: of discrete data whose densities are modelled; None where log p(x) is that of probabilities, or
            the data are continuous.
        **kwargs: of `OneLossModel`.
    """

    gives_probabilities: ClassVar[bool] = False
    """Whether `log_p` is the logarithm of a probability, of discrete values."""

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

    @property
    def discrete(self) -> bool:
        """Whether nats are those of probabilities, or bounds on them."""
        return self.gives_probabilities or self.dequantisation is not None

    @property
    def exact_likelihood(self) -> bool:
        """Whether log p(x) is computed; it is bounded where there is dequantisation."""
        return self.dequantisation is None

    # ---------------------------------------------------------------- the density

    @abstractmethod
    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Log p(x | y), (B,) nats.

        Args:
            x: (B, …) samples in model form, or the continuous values that dequantisation makes of them.
            y: (B,) classes, (B, K) attributes, or None.
        """

    @abstractmethod
    def draw_values(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws from p(x | y), (n, …), one a stream, in the form that `log_p` takes."""

    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Draws, of discrete values where the data are discrete."""
        values = self.draw_values(noise, y)
        return values if self.dequantisation is None else self.dequantisation.quantise(values)

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """−log p(x | y) in nats a sample, or its bound with one draw of the values."""
        x, y = batch["x"], self.condition_of(batch)
        if self.dequantisation is None:
            return -self.log_p(x, y).mean(), {}
        values, log_q = self.dequantisation(x)
        return (log_q - self.log_p(values, y)).mean(), {}

    # ---------------------------------------------------------------- numbers about data

    @torch.no_grad()
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """See `lightning_gen.abilities.HasLikelihood`.

        Raises:
            UserError: if there is dequantisation, so that it can only be bounded.
        """
        if self.dequantisation is not None:
            raise UserError(
                f"{type(self).__name__} models dequantised values, so it bounds log p(x): ask for log_likelihood"
            )
        with evaluating(self):
            return self.log_p(x, y)

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, y: Tensor | None, noise: Noise, num_importance_samples: int) -> Tensor:
        """See `lightning_gen.abilities.BoundsLikelihood`: the latents are the continuous values.

        Raises:
            UserError: if there is no dequantisation, so that it can be computed.
        """
        if self.dequantisation is None:
            raise UserError(f"{type(self).__name__} computes log p(x) here: ask for log_prob")
        with evaluating(self):
            weights = []
            for _ in range(num_importance_samples):
                values, log_q = self.dequantisation.draw(x, noise)
                log_weight = full(self.log_p(values, y) - log_q)
                weights.append(log_weight.double() if x.device.type != "mps" else log_weight)
            return torch.stack(weights).logsumexp(0) - math.log(num_importance_samples)

    def elbo_terms(self, x: Tensor, y: Tensor | None, noise: Noise) -> Terms:
        """See `lightning_gen.abilities.BoundsLikelihood`; values tell x, so the reconstruction costs nothing."""
        elbo = self.log_likelihood(x, y, noise, 1)
        return {"elbo": elbo, "reconstruction": torch.zeros_like(elbo), "kl": -elbo}

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
