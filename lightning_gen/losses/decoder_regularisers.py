"""Regularisers of a decoder, which keep samples of nearby codes alike (Ghosh et al., ICLR 2020, §3.1)."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.networks.spectral import normalise_spectrally
from lightning_gen.precision import exact, full


class DecoderRegulariser(ABC):
    """A term of the loss, or a change to the network, or both."""

    def prepare(self, decoder: nn.Module) -> None:  # noqa: B027 (most leave it)
        """Change the network, once, before training."""

    @abstractmethod
    def __call__(self, decoder: nn.Module, decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """The weighted term, a scalar.

        Args:
            decoder: the network.
            decode: codes (B, d) to outputs (B, …), not compiled: it may be differentiated twice.
            z: (B, d) codes.
        """


class DecoderWeightDecay(DecoderRegulariser):
    """λ ‖θ‖² of the decoder's parameters (RAE-L2; Tikhonov's regularisation, §3.1).

    Args:
        weight: λ, ≥ 0.

    Raises:
        UserError: if it is negative.
    """

    def __init__(self, weight: float = 1e-6) -> None:
        check_at_least(self, 0, weight=weight)
        self.weight = weight

    def __call__(self, decoder: nn.Module, decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """λ Σ_j θ_j²."""
        return self.weight * torch.stack([p.square().sum() for p in decoder.parameters()]).sum()


class DecoderGradientPenalty(DecoderRegulariser):
    """λ/2 · E ‖∂D(z)/∂z‖²_F of the decoder's outputs at the codes (RAE-GP, §3.1).

    The squared Frobenius norm of the Jacobian J is estimated without bias as ‖Jᵀv‖², v ~ N(0, I) for each sample
    (Hutchinson, 1989).

    Args:
        weight: λ, ≥ 0.

    Raises:
        UserError: if it is negative.
    """

    def __init__(self, weight: float = 1e-6) -> None:
        check_at_least(self, 0, weight=weight)
        self.weight = weight

    def __call__(self, decoder: nn.Module, decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """λ/2 · E ‖Jᵀv‖², in full precision, for codes with a gradient."""
        z = full(z)
        with exact(z):
            outputs = decode(z)
            (slope,) = torch.autograd.grad(outputs, z, torch.randn_like(outputs), create_graph=True)
        return self.weight / 2 * slope.square().sum(dim=1).mean()


class DecoderSpectralNorm(DecoderRegulariser):
    """Linear maps and convolutions of the decoder with largest singular value 1 (RAE-SN, §3.1); no term."""

    def prepare(self, decoder: nn.Module) -> None:
        """Normalise its weights from now on."""
        normalise_spectrally(decoder)

    def __call__(self, decoder: nn.Module, decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        """0."""
        return z.new_zeros(())
