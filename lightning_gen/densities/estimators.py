"""How the parameters of densities are estimated."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_gen.densities.base import AccumulatingDensity, Density
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.processes import summed
from lightning_gen.precision import exact


class Estimator(nn.Module, ABC):
    """What a batch of training does to the parameters of a density.

    Attributes:
        optimizer: makes the optimiser from parameters.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        num_draws: how many times the values of a batch are drawn from their bins, where there is dequantisation.
    """

    automatic: ClassVar[bool]
    """Whether gradients of the loss are all it needs, so that the trainer does the rest."""

    def __init__(
        self, optimizer: Callable[..., Optimizer], scheduler: Callable[..., Any] | None = None, num_draws: int = 1
    ) -> None:
        super().__init__()
        check_at_least(self, 1, num_draws=num_draws)
        self.optimizer, self.scheduler, self.num_draws = optimizer, scheduler, num_draws

    @abstractmethod
    def prepare(self, density: Density) -> None:
        """Told the density once, before anything else; raises `UserError` if it cannot be estimated so."""

    @abstractmethod
    def loss(self, density: Density, x: Tensor, log_q: Tensor, y: Tensor | None) -> Tensor:
        """The mean of log q(x) − log p(x | y), of a training batch.

        Args:
            density: that of `prepare`.
            x: (B, …) in the form that the density takes.
            log_q: (B,) nats, log-density of drawing such values; 0 where nothing is drawn.
            y: (B,) int64 classes, or None.
        """

    def end_epoch(self, density: Density) -> None:
        """All training samples have been seen."""


class ExpectationMaximisation(Estimator):
    """Sums over an epoch, then the parameters that follow from them, once an epoch.

    Where there are no latent variables they are the best at once: one epoch is enough. Of a mixture an epoch is one
    step of expectation-maximisation (Dempster, Laird, Rubin, 1977), which does not make the training set less likely,
    the prior of the density included. Sums are taken in float64 over all processes and all samples, those too that fill
    no batch, so that neither batches nor processes change what comes out. With dequantisation values are drawn anew in
    each epoch, and more draws come nearer to the bound itself.

    Args:
        num_draws: how many times the values of each sample are drawn in an epoch, ≥ 1. Sums are their means.

    Raises:
        UserError: if a number is out of its range.
    """

    automatic = False

    sums: Tensor
    """What the epoch has given so far, all in one: equal on all processes, and in checkpoints."""

    def __init__(self, num_draws: int = 1) -> None:
        super().__init__(CountedSteps, num_draws=num_draws)
        # an optimiser, and so a count of steps, needs a parameter, which some densities do not have
        self.epochs = nn.Parameter(torch.zeros(()))
        self.shapes: list[torch.Size] = []

    def prepare(self, density: Density) -> None:
        """Make room for the sums."""
        if not isinstance(density, AccumulatingDensity):
            raise UserError(
                f"model.init_args.estimator is {type(self).__name__}, but the parameters of {type(density).__name__} do"
                " not follow from sums over samples: use GradientDescent"
            )
        with torch.no_grad():
            nothing = torch.zeros(0, *density.sample_shape)
            y = torch.zeros(0, dtype=torch.int64) if density.num_classes is not None else None
            self.shapes = [part.shape for part in density.statistics(nothing, y)[1]]
        self.register_buffer("sums", torch.zeros(sum(map(_size, self.shapes)), dtype=torch.float64))

    @torch.no_grad()
    def loss(self, density: Density, x: Tensor, log_q: Tensor, y: Tensor | None) -> Tensor:
        """Without gradient; adds to the sums what the batches of all processes give."""
        assert isinstance(density, AccumulatingDensity)
        with exact(x):
            log_p, parts = density.statistics(x, y)
        if parts:
            self.sums += summed(torch.cat([part.flatten().to(self.sums) for part in parts])) / self.num_draws
        return (log_q - log_p).mean()

    @torch.no_grad()
    def end_epoch(self, density: Density) -> None:
        """Take the parameters, and begin anew."""
        assert isinstance(density, AccumulatingDensity)
        parts = self.sums.split([_size(shape) for shape in self.shapes])
        density.maximise([part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)])
        self.sums.zero_()
        self.epochs.add_(1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ExpectationMaximisation":
        if fn(torch.zeros(1)).device.type == "mps":  # which has no float64
            self.sums = self.sums.float()
        return super()._apply(fn, recurse)


class GradientDescent(Estimator):
    """Steps of an optimiser down the gradient of −log p(x | y).

    Args:
        optimizer: makes the optimiser from the density's parameters.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        num_draws: how many times the values of a batch are drawn from their bins, ≥ 1, where there is dequantisation.

    Raises:
        UserError: if a number is out of its range.
    """

    automatic = True

    def __init__(
        self,
        optimizer: Callable[[Iterable], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        num_draws: int = 1,
    ) -> None:
        super().__init__(optimizer, scheduler, num_draws)

    def prepare(self, density: Density) -> None:
        """There must be something to learn by gradients."""
        if density.gradient_fault is not None:
            raise UserError(
                f"model.init_args.estimator is {type(self).__name__}, but {type(density).__name__} cannot be estimated"
                f" by gradients: {density.gradient_fault}"
            )

    def loss(self, density: Density, x: Tensor, log_q: Tensor, y: Tensor | None) -> Tensor:
        """With gradient."""
        with exact(x):
            return (log_q - density.log_prob(x, y)).mean()


class CountedSteps(Optimizer):
    """Moves nothing: a trainer counts its steps."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.0})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing: there are no gradients that a closure could make."""


def _size(shape: torch.Size) -> int:
    return shape.numel()
