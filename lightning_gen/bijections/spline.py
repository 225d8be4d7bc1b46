"""Monotonic rational quadratic splines."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from lightning_gen.bijections.univariate import LOG_SMALLEST_SLOPE, Univariate, softly_clipped
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least


class Spline(Univariate):
    """A rational quadratic spline from [−B, B] onto itself, the identity outside.

    With bins of width w and height h from (x₀, y₀), slopes d₀ and d₁ at their edges, ξ = (x − x₀)/w and m = h/w

        y = y₀ + h (m ξ² + d₀ ξ (1 − ξ)) / (m + (d₀ + d₁ − 2m) ξ (1 − ξ))
        dy/dx = m² (d₁ ξ² + 2m ξ (1 − ξ) + d₀ (1 − ξ)²) / (m + (d₀ + d₁ − 2m) ξ (1 − ξ))²

    (Durkan, Bekasov, Murray, Papamakarios, "Neural spline flows", NeurIPS 2019, eqs. 4–5; the inverse is the root of a
    quadratic, eqs. 6–8). Values are those of zuko's MonotonicRQSTransform, but the inverse has its slope at once, and
    only the slopes of the bins that are hit are computed.

    Args:
        owner: whose arguments these are, for messages.
        bins: K ≥ 2.
        bound: B > 0.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(self, owner: object, bins: int, bound: float) -> None:
        check_at_least(owner, 2, bins=bins)
        if not bound > 0:
            raise UserError(f"{type(owner).__name__}.bound is {bound}: it must be above 0")
        self.bins, self.bound = bins, bound
        self.num_parameters = 3 * bins - 1

    def forward(self, x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Along the spline."""
        value = x.clamp(-self.bound, self.bound)
        x0, y0, width, height, d0, d1 = self._hit(value, numbers, 0)
        m, xi = height / width, (value - x0) / width
        rise, log_slope = _within(xi, m, d0, d1)
        inside = x.abs() <= self.bound
        return torch.where(inside, y0 + height * rise, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, z: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Back, by the root of a quadratic equation a ξ² + b ξ + c = 0."""
        value = z.clamp(-self.bound, self.bound)
        x0, y0, width, height, d0, d1 = self._hit(value, numbers, 1)
        m, above = height / width, value - y0
        bend = above * (d0 + d1 - 2 * m)
        a, b, c = height * (m - d0) + bend, height * d0 - bend, -m * above
        # this form of the root has no difference of nearly equal numbers; its square is above 0, but for rounding
        square = (b.square() - 4 * a * c).clamp(min=torch.finfo(b.dtype).tiny)
        xi = (2 * c / (-b - square.sqrt())).clamp(0, 1)
        log_slope = _within(xi, m, d0, d1)[1]
        inside = z.abs() <= self.bound
        return torch.where(inside, x0 + width * xi, z), torch.where(inside, -log_slope, 0.0)

    def _hit(self, value: Tensor, numbers: Tensor, axis: int) -> tuple[Tensor, ...]:
        """The bins (…) that values hit on the axis of x (0) or y (1): x₀, y₀, w, h, d₀, d₁."""
        shares = softly_clipped(numbers[..., : 2 * self.bins].unflatten(-1, (2, -1)), -LOG_SMALLEST_SLOPE / 2)
        sizes = 2 * self.bound * shares.softmax(-1)
        ends = sizes.cumsum(-1)
        k = (ends[..., axis, :-1] < (value + self.bound).unsqueeze(-1)).sum(-1, keepdim=True)
        both = torch.stack((k, k), dim=-2)
        size = sizes.gather(-1, both).squeeze(-1)
        start = ends.gather(-1, both).squeeze(-1) - size - self.bound
        # the slope is 1 at both ends
        slopes = pad(numbers[..., 2 * self.bins :], (1, 1)).gather(-1, torch.cat((k, k + 1), dim=-1))
        return (*start.unbind(-1), *size.unbind(-1), *softly_clipped(slopes).exp().unbind(-1))


def _within(xi: Tensor, m: Tensor, d0: Tensor, d1: Tensor) -> tuple[Tensor, Tensor]:
    """How far up its bin the spline is at ξ, in [0, 1], and log dy/dx."""
    xi = xi.clamp(0, 1)  # which it is, but for rounding: beyond, slopes may be negative
    product, rest = xi * (1 - xi), 1 - xi
    denominator = m + (d0 + d1 - 2 * m) * product
    slope = d1 * xi.square() + 2 * m * product + d0 * rest.square()
    return (m * xi.square() + d0 * product) / denominator, slope.log() + 2 * (m / denominator).log()
