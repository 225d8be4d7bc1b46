"""Variational dequantisation."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_gen.bijections.base import Bijection
from lightning_gen.bijections.coupling import RealNVP
from lightning_gen.dequantisation.base import Dequantisation
from lightning_gen.distributions.logistic import StandardLogistic
from lightning_gen.distributions.seeded import draw
from lightning_gen.errors import UserError
from lightning_gen.networks.autoencoders import Encoder
from lightning_gen.noise import Noise
from lightning_gen.precision import exact, full


class VariationalDequantisation(Dequantisation):
    """u = σ(g(ε; h(x))) with a flow g, trained with the model (Ho et al., "Flow++", ICML 2019, §3.1, eqs. 8–9).

        log q(u | x) = log p(ε) − log |det ∂g/∂ε| − Σ log σ'(g)

    Where the density of values is not flat in a bin, the bound is tighter than with uniform u. Beside the paper, ε is
    logistic instead of normal: where g is the identity, as nearly at first, u is uniform. The features h are a vector,
    which an encoder makes of x.

    Args:
        sample_shape: of one sample, such as [1, 8, 8].
        encoder: samples to the features h.
        levels: L, ≥ 2: 256 for images stored as bytes.
        flow: makes g, which is used from noise to samples; with `IAF` that is one pass, too.

    Raises:
        UserError: if there are fewer than two levels, or the encoder is conditional; before training, if samples have
            another shape.
    """

    def __init__(
        self,
        sample_shape: Sequence[int],
        encoder: Encoder,
        levels: int = 256,
        flow: Callable[[tuple[int, ...], int | None], Bijection] = RealNVP,
    ) -> None:
        super().__init__(levels)
        if encoder.num_classes is not None:
            raise UserError(
                f"num_classes of the encoder of VariationalDequantisation is {encoder.num_classes}, but it sees samples"
                " alone: leave it unset"
            )
        self.sample_shape = tuple(sample_shape)
        self.encoder = encoder
        self.flow = flow(self.sample_shape, encoder.num_features)
        self.base = StandardLogistic(prod(self.sample_shape))

    def offsets(self, x: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
        """From the flow."""
        base = self.base()
        epsilon = base.rsample(torch.Size((len(x),))) if noise is None else draw(base, noise, 1)[0]
        features = full(self.encoder(x, None))
        with exact(x):
            z = epsilon.to(x).unflatten(1, self.flow.latent_shape)
            logits, log_det = self.flow.inverse(z, features)
            log_slopes = (logsigmoid(logits) + logsigmoid(-logits)).flatten(1).sum(1)
            log_q = base.log_prob(epsilon).to(log_det) - log_det - log_slopes
        return logits.sigmoid().clamp(max=1 - torch.finfo(x.dtype).eps), log_q

    def check(self, x: Tensor) -> None:
        """Samples must have the shape that it is made for, and values that are levels."""
        if tuple(x.shape[1:]) != self.sample_shape:
            raise UserError(
                f"VariationalDequantisation.sample_shape is {list(self.sample_shape)} but data gives samples of shape"
                f" {list(x.shape[1:])}: make the two agree"
            )
        super().check(x)
