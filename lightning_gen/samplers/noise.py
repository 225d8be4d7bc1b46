"""How noise is drawn that a flow turns into samples."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor
from torch.distributions import Distribution

from lightning_gen.errors import UserError
from lightning_gen.noise import Noise
from lightning_gen.samplers.base import Sampler

if TYPE_CHECKING:
    from lightning_gen.distributions import VariationalLayer


class NoiseSampler(Sampler):
    """Draws noise for samples, each from its own stream; training looks at densities alone."""

    @abstractmethod
    def __call__(self, noise: Noise, base: "VariationalLayer") -> Tensor:
        """Noise (n, D), one row a stream, of a flow whose noise has the density `base`."""


class FromBase(NoiseSampler):
    """z ~ p(z): samples of the model."""

    def __call__(self, noise: Noise, base: "VariationalLayer") -> Tensor:
        """(n, D)."""
        return _drawn(base(), noise)


class Temperature(NoiseSampler):
    """z̄ + T (z − z̄), z ~ p(z): likelier and less diverse samples below T = 1 (Kingma, Dhariwal, "Glow", 2018, §5.1).

    Where couplings are additive and noise is normal, samples x have a density that is proportional to p(x)^(1/T²);
    elsewhere none that is as simple. z̄ is the mean of p(z).

    Args:
        temperature: T ≥ 0; the paper's pictures of faces have 0.7.

    Raises:
        UserError: if T is negative.
    """

    def __init__(self, temperature: float = 0.7) -> None:
        if not temperature >= 0:
            raise UserError(f"Temperature.temperature is {temperature}: it must be at least 0")
        self.temperature = temperature

    def __call__(self, noise: Noise, base: "VariationalLayer") -> Tensor:
        """(n, D)."""
        distribution = base()
        centre = base.mean(distribution)
        return centre + self.temperature * (_drawn(distribution, noise) - centre)


def _drawn(distribution: Distribution, noise: Noise) -> Tensor:
    """(n, D)."""
    from lightning_gen.distributions import draw  # not above: distributions may be made of bijections, these of solvers

    return draw(distribution, noise, 1)[0]
