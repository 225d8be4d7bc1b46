"""Angles of samples of von Mises–Fisher distributions from the mode, and how they move with the concentration."""

import math

import torch
from torch import Tensor

from lightning_gen.distributions.special import unit_interval

NUM_PROPOSALS = 28
"""At least .658 of Wood's proposals are accepted, whatever d and κ: all of a draw are refused once in 10¹³."""
_NUM_NODES = 48
_REACH = 10.0
"""Widths of the density that the integral of a gradient goes over, as far as there are so many."""


def precise(x: Tensor) -> Tensor:
    """In float64 where there is any: one number a vector, of which large parts cancel."""
    return x if x.device.type == "mps" else x.double()


def proposals(first: Tensor, second: Tensor, third: Tensor, kappa: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Proposed 1 − cos θ by Wood's algorithm VM*, and which are accepted, from three uniform numbers each.

    Its beta variables are (1 + √(1 − u^{2/(d−2)}) cos 2πu')/2 (Ulrich, "Computer Generation of Distributions on the
    m-Sphere", Applied Statistics 33, 1984). The cosine itself would have no digits left for small angles.
    """
    free = dim - 1
    radius = (-torch.expm1(first.log() * (2 / (dim - 2)))).sqrt() if dim > 2 else torch.ones_like(first)
    beta = (1 + radius * (2 * math.pi * second).cos()) / 2
    b = free / (2 * kappa + (4 * kappa.square() + free**2).sqrt())
    versine = 2 * b * beta / (1 - (1 - b) * beta)
    x = (1 - b) / (1 + b)
    gap = 2 * b / (1 + b) - versine  # cos θ − x
    log_ratio = kappa * gap + free * torch.log1p(-x * gap / (1 - x.square()))
    return versine, log_ratio >= third.log()


def first_angle(versine: Tensor, accepted: Tensor) -> Tensor:
    """Angles θ (…) of the first accepted of proposals (…, n)."""
    chosen = versine.gather(-1, accepted.to(torch.int8).argmax(-1, keepdim=True)).squeeze(-1)
    return 2 * (chosen / 2).clamp(0, 1).sqrt().asin()


def angle_speed(angle: Tensor, kappa: Tensor, ratio: Tensor, dim: int) -> Tensor:
    """∂θ/∂κ = −∫_0^θ (cos t − A(κ)) p(t) dt / p(θ),  p(t) ∝ sin^{d−2} t exp(κ cos t).

    The integral over [θ, π] is minus that over [0, θ]: that is taken where p falls from θ on.
    """
    falls_left = kappa * angle.sin().square() < (dim - 2) * angle.cos()  # θ is below the mode
    reach = _REACH * torch.rsqrt(torch.maximum(kappa, torch.full_like(kappa, max(dim - 2, 0.01))))
    length = torch.minimum(torch.where(falls_left, angle, math.pi - angle), reach)
    x, weights = unit_interval(_NUM_NODES, angle.dtype, angle.device)
    apart = torch.where(falls_left, -length, length).unsqueeze(-1) * x
    theta, t = angle.unsqueeze(-1), angle.unsqueeze(-1) + apart
    log_density = -2 * kappa.unsqueeze(-1) * (theta + apart / 2).sin() * (apart / 2).sin()
    if dim > 2:
        tiny = torch.finfo(t.dtype).tiny
        log_density = log_density + (dim - 2) * (t.sin().clamp(min=tiny) / theta.sin().clamp(min=tiny)).log()
    integral = ((t.cos() - ratio.unsqueeze(-1)) * log_density.exp() * weights).sum(-1) * length
    return torch.where(falls_left, -integral, integral)
