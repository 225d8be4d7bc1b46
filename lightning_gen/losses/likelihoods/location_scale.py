"""What likelihoods share that move and stretch one density."""

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn.functional import softplus

from lightning_gen.losses.likelihoods.base import Likelihood, check_finite, in_model_form, of_samples
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class LocationScale(Likelihood, ABC):
    """log p(x | z) = Σ_j log f((x_j − μ_j)/σ_j) − log σ_j, with μ the decoder's first number of an entry.

    For data of any range; images that are shown or drawn are clamped to [-1, 1].
    """

    @abstractmethod
    def log_density(self, standardised: Tensor) -> Tensor:
        """Log f, of each entry."""

    @abstractmethod
    def standard(self, noise: Noise, shape: tuple[int, ...]) -> Tensor:
        """Draws (n, *shape) from f."""

    @abstractmethod
    def log_scale(self, parameters: Tensor) -> Tensor:
        """Log σ, (N, …) or of a shape that broadcasts to it, from (N, P, …) outputs."""

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats, of a density with respect to x, from (N, P, …) outputs and (N, …) samples."""
        parameters = full(parameters)
        return self.nats(parameters[:, 0], self.log_scale(parameters), x)

    def nats(self, location: Tensor, log_scale: Tensor, x: Tensor) -> Tensor:
        """(N,) nats from μ, log σ and x."""
        return of_samples(self.log_density((x - location) * (-log_scale).exp()) - log_scale)

    def expectation(self, parameters: Tensor) -> Tensor:
        """μ, wherever it is."""
        return parameters[:, 0]

    def mean(self, parameters: Tensor) -> Tensor:
        """μ; of images, clamped."""
        return in_model_form(self.expectation(parameters))

    def draw(self, parameters: Tensor, noise: Noise) -> Tensor:
        """μ + σε."""
        parameters = full(parameters)
        location = parameters[:, 0]
        epsilon = self.standard(noise, tuple(location.shape[1:])).to(location)
        return in_model_form(location + self.log_scale(parameters).exp() * epsilon)

    def check(self, x: Tensor) -> None:
        """Values must be finite."""
        check_finite(self, x)


def bounded_below(log_scale: Tensor, minimum: float) -> Tensor:
    """A log-scale that is never below `minimum`, and almost itself above: gradients do not end at the bound."""
    return minimum + softplus(log_scale - minimum)
