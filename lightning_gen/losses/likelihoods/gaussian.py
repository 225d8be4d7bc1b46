"""Gaussian likelihoods: of a scale that is given, learnt for each entry, or one for all entries."""

from abc import ABC
from math import exp, expm1, log, pi

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above
from lightning_gen.losses.likelihoods.location_scale import LocationScale, bounded_below
from lightning_gen.losses.processes import mean_over_processes
from lightning_gen.noise import Noise
from lightning_gen.precision import full


class _Gaussian(LocationScale, ABC):
    def log_density(self, standardised: Tensor) -> Tensor:
        """−ε²/2 − ½ log 2π."""
        return -0.5 * (standardised.square() + log(2 * pi))

    def standard(self, noise: Noise, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers."""
        return noise.normal(*shape)


class Gaussian(_Gaussian):
    """N(x; μ, σ²) with one σ that is given: squared errors, weighed against the divergence by 1/2σ².

    Args:
        scale: σ, in units of x, > 0.

    Raises:
        UserError: if the scale is not above 0.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        check_above(self, 0, scale=scale)
        self.scale = scale

    def log_scale(self, parameters: Tensor) -> Tensor:
        """The given one, ()."""
        return torch.full((), log(self.scale), dtype=parameters.dtype, device=parameters.device)


class LearnedGaussian(_Gaussian):
    """N(x; μ, σ²) with μ and log σ of each entry from the decoder.

    Of data with few levels the density has no upper bound but that of σ.

    Args:
        min_log_scale: log σ stays above it, smoothly.
    """

    num_parameters = 2

    def __init__(self, min_log_scale: float = -7.0) -> None:
        super().__init__()
        self.min_log_scale = min_log_scale

    def log_scale(self, parameters: Tensor) -> Tensor:
        """Of each entry, (N, …)."""
        return bounded_below(parameters[:, 1], self.min_log_scale)


class SharedGaussian(_Gaussian):
    """N(x; μ, σ²) with one learnt σ for all entries (σ-VAE: Rybkin, Daniilidis, Levine, ICML 2021).

    Args:
        scale: σ at first, in units of x, > 0 and above its bound.
        min_log_scale: log σ stays above it, smoothly.

    Raises:
        UserError: if the scale is not above its bound.
    """

    def __init__(self, scale: float = 1.0, min_log_scale: float = -6.0) -> None:
        super().__init__()
        check_above(self, 0, scale=scale)
        above = log(scale) - min_log_scale
        if not above > 0:
            raise UserError(
                f"SharedGaussian.scale is {scale}: it must be above exp(min_log_scale), {exp(min_log_scale):.4g}, below"
                " which it cannot fall"
            )
        self.min_log_scale = min_log_scale
        # what `bounded_below` makes log σ of: the inverse of the softplus
        self.raw_log_scale = nn.Parameter(torch.tensor(min_log_scale + above + log(-expm1(-above))))

    def log_scale(self, parameters: Tensor) -> Tensor:
        """The one of all entries, ()."""
        return full(bounded_below(self.raw_log_scale, self.min_log_scale))


class OptimalGaussian(_Gaussian):
    """N(x; μ, σ²) with the most likely σ of the batch, σ² = mean (x − μ)² (Rybkin et al., ICML 2021).

    The mean is over entries, latents and samples of all processes. There the likelihood's mean over the batch has no
    gradient by σ, so σ is a constant here: the gradient is that of ½D log σ², D entries a sample. In evaluation mode,
    where a sample's number must not depend on its batch, σ² is an exponential moving average of the training batches'
    (1 before the first).

    Args:
        decay: of that average, in [0, 1).
        min_log_scale: log σ is at least this.

    Raises:
        UserError: if the decay is out of its range.
    """

    variance: Tensor
    started: Tensor

    def __init__(self, decay: float = 0.99, min_log_scale: float = -6.0) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UserError(f"OptimalGaussian.decay is {decay}: it must be at least 0 and below 1")
        self.decay = decay
        self.min_log_scale = min_log_scale
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("started", torch.zeros(()))

    def forward(self, parameters: Tensor, x: Tensor) -> Tensor:
        """(N,) nats; in training mode σ is the batch's."""
        if not self.training:
            return super().forward(parameters, x)
        location = full(parameters[:, 0])
        variance = mean_over_processes((x - location).square().mean())
        with torch.no_grad():
            self.variance.lerp_(variance.to(self.variance), 1 - self.decay * self.started)
            self.started.fill_(1.0)
        return self.nats(location, self._log_scale_of(variance), x)

    def log_scale(self, parameters: Tensor) -> Tensor:
        """The average's, ()."""
        return self._log_scale_of(self.variance)

    def _log_scale_of(self, variance: Tensor) -> Tensor:
        return (0.5 * full(variance).log()).clamp(min=self.min_log_scale)
