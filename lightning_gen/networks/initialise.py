"""How weights start. A network takes a factory, `init: Callable[[], Initialisation]`; in YAML, a class name."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lightning_gen.networks.normalisation import ConditionalBatchNorm2d


class ResidualConv2d(nn.Conv2d):
    """A 3×3 convolution on a residual branch, which keeps the size of the map; `Xavier` starts it with gain √2.

    Args:
        before: channels of the input.
        after: channels of the output.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)


class Initialisation(ABC):
    """Fills the weights of all convolutions, linear maps and embeddings of a network; biases start at 0.

    Called before spectral norm is put on, since that replaces the weights by functions of them.
    """

    def __call__(self, network: nn.Module) -> None:
        """Initialise a network in place."""
        for module in network.modules():
            if isinstance(module, ConditionalBatchNorm2d):
                self.fill_condition(module.gain.weight, module.bias.weight)
        conditions = {m for n in network.modules() if isinstance(n, ConditionalBatchNorm2d) for m in (n.gain, n.bias)}
        for module in network.modules():
            if module in conditions:
                continue
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                self.fill(module.weight, 2**0.5 if isinstance(module, ResidualConv2d) else 1.0)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                self.fill(module.weight, 1.0)

    def fill_condition(self, gain: Tensor, bias: Tensor) -> None:
        """Fill the two maps of a conditional batch norm in place; as other linear maps, unless overridden."""
        self.fill(gain, 1.0)
        self.fill(bias, 1.0)

    @abstractmethod
    def fill(self, weight: Tensor, gain: float) -> None:
        """Fill one weight in place; `gain` is √2 in residual 3×3 convolutions and 1 elsewhere."""


class Xavier(Initialisation):
    """U(±gain·√(6 / (fan in + fan out))), as SNGAN (Glorot, Bengio, AISTATS 2010, eq. 16)."""

    def fill(self, weight: Tensor, gain: float) -> None:
        """Fill one weight in place."""
        nn.init.xavier_uniform_(weight, gain)

    def fill_condition(self, gain: Tensor, bias: Tensor) -> None:
        """Gains from N(1, 0.02²), biases as good as 0, as in mimicry (Lee, Town, arXiv:2005.02494)."""
        nn.init.normal_(gain, 0.0, 0.02)
        nn.init.normal_(bias, 0.0, 1e-4)  # not 0, which has no spectral norm to be divided by


class Orthogonal(Initialisation):
    """Rows or columns orthonormal, as BigGAN (Saxe et al., ICLR 2014); the gain is 1 everywhere."""

    def fill(self, weight: Tensor, gain: float) -> None:
        """Fill one weight in place."""
        nn.init.orthogonal_(weight)


class Normal(Initialisation):
    """N(0, std²), as DCGAN; the gain plays no part.

    Args:
        std: standard deviation, > 0.
    """

    def __init__(self, std: float = 0.02) -> None:
        self.std = std

    def fill(self, weight: Tensor, gain: float) -> None:
        """Fill one weight in place."""
        nn.init.normal_(weight, 0.0, self.std)
