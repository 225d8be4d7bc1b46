"""Spectral normalisation (Miyato et al., "Spectral Normalization for GANs", ICLR 2018, eq. 8): W / σ(W)."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import ParametrizationList

from lightning_gen.precision import exact


def normalise_spectrally(*networks: nn.Module, eps: float = 1e-6) -> None:
    """Divide every convolution's, linear map's and embedding's weight by its largest singular value, in place.

    σ is estimated by one step of power iteration whenever a weight is used in training, 15 at the start.

    Args:
        networks: whose weights to normalise, after they were initialised.
        eps: keeps the norms in the power iteration from 0.
    """
    for network in networks:
        for module in list(network.modules()):
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
                spectral_norm(module, eps=eps)
                chain = module.get_submodule("parametrizations.weight")
                assert isinstance(chain, ParametrizationList)
                chain[0] = _FullPrecision(chain[0])


class _FullPrecision(nn.Module):
    """Runs a parametrisation outside autocast: iterated in bfloat16, σ would be off by some 0.4 %."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, weight: Tensor) -> Tensor:
        with exact(weight):
            return self.inner(weight)
