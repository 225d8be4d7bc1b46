"""Special functions that distributions need, accurate in float32 and float64 and differentiable any number of times.

Integrals are taken with Gaussian quadrature of positive integrands: such sums lose no digits, nor do their gradients.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

_EXP1_TERMS = 24
"""Of the power series up to 1: the next one is below 10⁻²⁵."""
_LAGUERRE_NODES = {torch.float32: 24, torch.float64: 80}
"""Errors above 1 fall as exp(−4√n)."""
_LEGENDRE_NODES = {torch.float32: 16, torch.float64: 32}
_NEGLIGIBLE = {torch.float32: 20.0, torch.float64: 40.0}
"""Integrands are followed until they have fallen by the exponential of this."""
_LARGE_ORDER = 20
_DEBYE_TERMS = 8
"""At that order and above, so many terms of the expansion are right to 10⁻¹²."""


def log_scaled_exp1(a: Tensor) -> Tensor:
    """Log of e^a E₁(a), where E₁(a) = ∫_a^∞ e^{−t}/t dt.

    By the power series up to 1, and beyond by Gauss–Laguerre quadrature (Abramowitz, Stegun, 5.1.11 and 25.4.45) of

        a e^a E₁(a) = ∫_0^∞ e^{−t}/(1 + t/a) dt

    Args:
        a: above 0; accurate to rounding from the smallest number up.
    """
    small = a.clamp(max=1.0)
    series = torch.zeros_like(a)
    for k in range(_EXP1_TERMS, 0, -1):
        series = (-1.0) ** (k + 1) / (k * math.factorial(k)) + small * series
    below = small + (series * small - small.log() - np.euler_gamma).log()
    t, weights = _nodes("laguerre", _LAGUERRE_NODES[a.dtype], a.dtype, a.device)
    large = a.clamp(min=1.0)
    above = (weights / (1 + t / large.unsqueeze(-1))).sum(-1).log() - large.log()
    return torch.where(a < 1, below, above)


def normal_cdf(x: Tensor) -> Tensor:
    """Φ(x), which in the lower tail has all its digits, unlike `torch.special.ndtr`."""
    return 0.5 * torch.erfc(x * -math.sqrt(0.5))


def tail_moments(a: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """∫_0^width s^j exp(−a s − s²/2) ds for j = 0, 1, 2: moments of a normal's piece about the end next to its mean.

    Args:
        a: ≥ 0, how many standard deviations that end is away from the mean.
        width: ≥ 0, of the piece in standard deviations; finite, but as large as one likes.

    Returns:
        Three tensors of the shape that `a` and `width` have together; 0 for an empty piece, of which the gradient is
        right as well.
    """
    a, width = torch.broadcast_tensors(a, width)
    most = _NEGLIGIBLE[a.dtype]
    x, weights = _nodes("legendre", _LEGENDRE_NODES[a.dtype], a.dtype, a.device)
    end = torch.minimum(width, (2 * most / (a + (a.square() + 2 * most).sqrt())).detach())  # a s + s²/2 = most there
    s = end.unsqueeze(-1) * x
    terms = end.unsqueeze(-1) * weights * (-s * (a.unsqueeze(-1) + s / 2)).exp()
    return terms.sum(-1), (terms * s).sum(-1), (terms * s.square()).sum(-1)


def log_bessel(order: float, x: Tensor) -> Tensor:
    """Log of Γ(ν + 1) (2/x)^ν I_ν(x) e^{−x}: of a modified Bessel function, scaled to be 1 at 0 and not to overflow.

    Args:
        order: ν ≥ 0, any real number.
        x: ≥ 0.

    Returns:
        Values in the form of `x`, accurate to about 10⁻¹² in float64.
    """
    return _bessel(order, x)[0]


def bessel_ratio(order: float, x: Tensor) -> Tensor:
    """I_{ν+1}(x) / I_ν(x), in [0, 1), which is the derivative of `log_bessel(order, x) + x`; arguments as above."""
    return _bessel(order, x)[1]


def _bessel(order: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both of the above, from an expansion at a large order down.

    With g_ν = 2(ν + 1) I_{ν+1}(x) / (x I_ν(x)) there are recurrences whose terms are all positive:

        1/g_ν = 1 + x² g_{ν+1} / (4(ν + 1)(ν + 2)),   log_bessel(ν, x) = log_bessel(ν + 1, x) − log g_ν

    which are that of Abramowitz, Stegun, 9.6.26, rewritten.
    """
    steps = max(math.ceil(_LARGE_ORDER - order), 0)
    value = _debye(order + steps, x)
    g = (_debye(order + steps + 1, x) - value).exp()
    for nu in (order + step for step in reversed(range(steps))):
        g = 1 / (1 + x.square() * g / (4 * (nu + 1) * (nu + 2)))
        value = value - g.log()
    return value, x * g / (2 * (order + 1))


def _debye(order: float, x: Tensor) -> Tensor:
    """`log_bessel` of a large order by Debye's expansion, uniform in x (Abramowitz, Stegun, 9.7.7)."""
    z = x / order
    root = (1 + z.square()).sqrt()
    p, series = 1 / root, torch.zeros_like(x)
    for coefficient in reversed(_debye_coefficients(order)):
        series = coefficient + p * series
    start = math.lgamma(order + 1) - order * math.log(order) - 0.5 * math.log(2 * math.pi * order)
    return start + order / (root + z) - order * ((1 + root) / 2).log() - 0.5 * root.log() + series.log()


@cache
def _debye_coefficients(order: float) -> list[float]:
    """Of the polynomial Σ_k u_k(p) / ν^k in p (Abramowitz, Stegun, 9.3.9 and 9.3.10)."""
    u = np.polynomial.Polynomial([1.0])
    total = u
    for k in range(1, _DEBYE_TERMS + 1):
        first = np.polynomial.Polynomial([0, 0, 0.5, 0, -0.5]) * u.deriv()
        u = first + (np.polynomial.Polynomial([1, 0, -5]) * u).integ() / 8
        total = total + u / order**k
    return [float(c) for c in total.coef]


@cache
def _nodes(rule: str, number: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a rule for [0, ∞) and e^{−x} (laguerre) or for [0, 1] (legendre), on a device."""
    if rule == "laguerre":
        x, w = np.polynomial.laguerre.laggauss(number)
    else:
        x, w = np.polynomial.legendre.leggauss(number)
        x, w = (x + 1) / 2, w / 2
    with torch.inference_mode(False):  # or a first call in inference mode would leave what no gradient can pass
        return torch.tensor(x, dtype=dtype, device=device), torch.tensor(w, dtype=dtype, device=device)


def unit_interval(number: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Nodes and weights, each (number,), of Gauss–Legendre quadrature over [0, 1]; made once a device."""
    return _nodes("legendre", number, dtype, device)
