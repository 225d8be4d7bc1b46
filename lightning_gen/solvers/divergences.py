"""The divergence of a velocity, ∇·v = tr ∂v/∂x."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.noise import Noise
from lightning_gen.solvers.base import Velocity


@contextmanager
def differentiable() -> Iterator[None]:
    """Leave torch's inference mode, in which Lightning validates; without gradients beyond the divergence's own."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def outside_inference(x: Tensor) -> Tensor:
    """`x` itself, or where it was made in inference mode a copy that can be differentiated with respect to."""
    return x.clone() if x.is_inference() else x


class Divergence(ABC):
    """Computes or estimates ∇·v for each sample, by differentiating v backwards."""

    exact: ClassVar[bool]
    """Whether it is computed."""

    @abstractmethod
    def probes(self, x: Tensor, noise: Noise | None) -> list[Tensor]:
        """What is drawn once for a whole solution, each of the shape of x (n, …).

        Args:
            x: (n, …).
            noise: a stream a sample; None for torch's global generator.
        """

    @abstractmethod
    def trace(self, v: Tensor, x: Tensor, probes: list[Tensor], learns: bool) -> Tensor:
        """(n,) traces of ∂v/∂x, from v (n, …) with its graph back to x (n, …); differentiable if it `learns`."""

    def __call__(self, velocity: Velocity, x: Tensor, t: Tensor, probes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Both v (n, …) at x (n, …) and t (n,), and ∇·v (n,); with gradients where they are enabled.

        Raises:
            RuntimeError: in torch's inference mode, where nothing can be differentiated; see `differentiable`.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError("a divergence needs derivatives: leave torch.inference_mode, as differentiable() does")
        learns = torch.is_grad_enabled()
        with torch.enable_grad():
            if not (learns and x.requires_grad):
                x = x.detach().requires_grad_(True)
            v = velocity(x, t)
            trace = self.trace(v, x, probes, learns)
        return (v, trace) if learns else (v.detach(), trace.detach())


class ExactDivergence(Divergence):
    """Σ_i ∂v_i/∂x_i: one pass back for each of the D entries of a sample, so for few of them."""

    exact = True

    def probes(self, x: Tensor, noise: Noise | None) -> list[Tensor]:
        """None."""
        return []

    def trace(self, v: Tensor, x: Tensor, probes: list[Tensor], learns: bool) -> Tensor:
        """Exact."""
        columns, total = v.flatten(1).unbind(1), x.new_zeros(len(x))
        for i, column in enumerate(columns):
            total = total + _back(column, x, i + 1 < len(columns), learns).flatten(1)[:, i]
        return total


class HutchinsonDivergence(Divergence):
    """(1/K) Σ_k ε_kᵀ (∂v/∂x) ε_k with E εεᵀ = I, entries ±1 (Hutchinson, 1990; Grathwohl et al., "FFJORD", ICLR 2019).

    Probes ε_k stay the same along a solution, so that the mean of its log-density over them is the exact one.

    Args:
        num_probes: K, ≥ 1: as many passes back.

    Raises:
        UserError: if there is no probe.
    """

    exact = False

    def __init__(self, num_probes: int = 1) -> None:
        check_at_least(self, 1, num_probes=num_probes)
        self.num_probes = num_probes

    def probes(self, x: Tensor, noise: Noise | None) -> list[Tensor]:
        """K, of signs."""
        entries = prod(x.shape[1:])
        if noise is None:
            signs = torch.randint(2, (len(x), self.num_probes * entries), device=x.device)
        else:
            signs = noise.bits(self.num_probes * entries).to(x.device) >> 31
        return [each.to(x).view_as(x) for each in (2 * signs - 1).chunk(self.num_probes, 1)]

    def trace(self, v: Tensor, x: Tensor, probes: list[Tensor], learns: bool) -> Tensor:
        """Unbiased."""
        total = x.new_zeros(len(x))
        for k, probe in enumerate(probes):
            total = total + (_back(v * probe, x, k + 1 < self.num_probes, learns) * probe).flatten(1).sum(1)
        return total / self.num_probes


def _back(values: Tensor, x: Tensor, again: bool, learns: bool) -> Tensor:
    """The gradient (n, …) of the sum of values, each of which depends on its own sample alone.

    Args:
        values: (n, …).
        x: (n, …).
        again: whether the graph is needed once more.
        learns: whether the gradient is to have one, too.
    """
    if not values.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(
        values.sum(), x, retain_graph=again or learns, create_graph=learns, materialize_grads=True
    )
    return gradient
