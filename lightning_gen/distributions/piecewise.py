"""Piecewise normal distributions: the line is cut at fixed knots, and each interval has its own mean and variance.

With enough intervals such a density takes any shape, several modes included, while sampling stays continuous and
divergences exact.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints, kl_divergence, register_kl
from torch.special import ndtri

from lightning_gen.distributions.base import Parameters, VariationalLayer
from lightning_gen.distributions.pushforward import Pushforward, scale_of
from lightning_gen.distributions.special import normal_cdf
from lightning_gen.distributions.truncated import FAR, Piece
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.precision import full


class PiecewiseNormalDistribution(Pushforward):
    """p(z) = w_k N(z; μ_k, σ_k²) / ∫_k N(·; μ_k, σ_k²) for z in interval k,  w = softmax(logits).

    The K − 1 knots between intervals are equally spaced from −limit to limit, or the one at 0. The density jumps at
    knots, so that the gradient of a sample is right for expectations of continuous functions, but not of `log_prob`:
    use the closed form of the divergence, which there is from normals and to them, too.

    Args:
        logits: (…, K) of the weights of intervals.
        loc: (…, K) μ_k, anywhere on the line.
        scale: (…, K) σ_k > 0; shapes broadcast.
        limit: > 0, the last knot.
        validate_args: as torch's distributions have it.
    """

    arg_constraints: ClassVar = {
        "log_weights": constraints.real,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real

    def __init__(
        self, logits: Tensor, loc: Tensor, scale: Tensor, limit: float, validate_args: bool | None = None
    ) -> None:
        self.log_weights, self.loc, self.scale = torch.broadcast_tensors(logits.log_softmax(-1), loc, scale)
        self.limit = limit
        super().__init__(self.loc.shape[:-1], validate_args=validate_args)

    @property
    def num_intervals(self) -> int:
        """K."""
        return self.loc.shape[-1]

    @property
    def pieces(self) -> Piece:
        """The normals of all intervals, (…, K)."""
        return pieces_of(self.loc, self.scale, self.limit)

    def push(self, noise: Tensor) -> Tensor:
        """F⁻¹(Φ(ε)), with the gradient −(∂F/∂parameters)/p of implicit reparameterisation.

        Figurnov et al., "Implicit Reparameterization Gradients", NeurIPS 2018.
        """
        with torch.no_grad():
            z = self._quantile(normal_cdf(noise), normal_cdf(-noise))
            density = self.log_prob(z).exp().clamp(min=torch.finfo(z.dtype).tiny)
        # of the two tails that which is small, since it has its digits
        mass = torch.where(noise < 0, self._mass(z, below=True), -self._mass(z, below=False))
        return z - (mass - mass.detach()) / density

    def _quantile(self, below: Tensor, above: Tensor) -> Tensor:
        """Of the probabilities below and above."""
        weights = self.log_weights.exp()
        up_to, from_on = weights.cumsum(-1), weights.flip(-1).cumsum(-1).flip(-1)
        lower = below < above
        counted_up = (up_to[..., :-1] <= below.unsqueeze(-1)).sum(-1)
        counted_down = (from_on[..., 1:] > above.unsqueeze(-1)).sum(-1)
        interval = torch.where(lower, counted_up, counted_down)
        weight, end, start = self._of(interval, weights, up_to, from_on)
        weight = weight.clamp(min=torch.finfo(weight.dtype).tiny)
        share_below = ((below - (end - weight)) / weight).clamp(0, 1)
        share_above = ((above - (start - weight)) / weight).clamp(0, 1)
        piece = self._piece(interval)
        return piece.quantile(
            torch.where(lower, share_below, 1 - share_above), torch.where(lower, 1 - share_below, share_above)
        )

    def icdf(self, value: Tensor) -> Tensor:
        """The inverse of `cdf`, of values in (0, 1)."""
        return self.push(ndtri(value))

    def cdf(self, value: Tensor) -> Tensor:
        """F."""
        return self._mass(value, below=True)

    def _mass(self, value: Tensor, below: bool) -> Tensor:
        """F or 1 − F."""
        interval = self._interval(value)
        weights = self.log_weights.exp()
        sums = weights.cumsum(-1) if below else weights.flip(-1).cumsum(-1).flip(-1)
        weight, others = self._of(interval, weights, sums - weights)
        piece = self._piece(interval)
        low, high = (piece.low, value) if below else (value, piece.high)
        return others + weight * piece.share(Piece(low, high, piece.loc, piece.scale))

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats."""
        interval = self._interval(value)
        return self._of(interval, self.log_weights)[0] + self._piece(interval).log_prob(value)

    def _interval(self, value: Tensor) -> Tensor:
        """Index of the interval of each value, of a shape that has the batch shape at its end."""
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        return (value.unsqueeze(-1) >= _knots(self.loc, self.limit)).sum(-1)

    def _of(self, interval: Tensor, *tables: Tensor) -> list[Tensor]:
        """Entries of tables (…, K) for the interval of each value."""
        shape = (*interval.shape, self.num_intervals)
        return [table.expand(shape).gather(-1, interval.unsqueeze(-1)).squeeze(-1) for table in tables]

    def _piece(self, interval: Tensor) -> Piece:
        low, high = _ends(self.loc, self.limit)
        return Piece(*self._of(interval, low, high, self.loc, self.scale))

    @property
    def mean(self) -> Tensor:
        """Of the means of the intervals."""
        pieces = self.pieces
        return (self.log_weights.exp() * (pieces.anchor + pieces.scale * pieces.moments[0])).sum(-1)

    @property
    def variance(self) -> Tensor:
        """The second moment about the mean."""
        pieces = self.pieces
        first, second = pieces.moments
        apart = pieces.anchor - self.mean.unsqueeze(-1)
        square = apart.square() + 2 * apart * pieces.scale * first + pieces.scale.square() * second
        return (self.log_weights.exp() * square).sum(-1)


def _knots(like: Tensor, limit: float) -> Tensor:
    """(K − 1,) knots between the K intervals of (…, K) parameters."""
    if like.shape[-1] == 2:
        return like.new_zeros(1)
    return torch.linspace(-limit, limit, like.shape[-1] - 1, dtype=like.dtype, device=like.device)


def _ends(like: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Lower and upper ends (K,) of the intervals."""
    knots, far = _knots(like, limit), like.new_full((1,), FAR)
    return torch.cat((-far, knots)), torch.cat((knots, far))


def pieces_of(loc: Tensor, scale: Tensor, limit: float) -> Piece:
    """What the knots up to a limit cut normals (…, K) into, the k-th of which counts in interval k."""
    return Piece(*_ends(loc, limit), loc, scale)


class PiecewiseNormal(VariationalLayer):
    """A piecewise normal for each latent variable: logits, μ_k and log σ_k² linear in the features or learnt.

    At first, or for features 0, it is a standard normal.

    Args:
        latent_dim: number d of latent variables.
        num_features: length F of the features; None for learnt parameters.
        num_intervals: K ≥ 2; the outer ones have no end.
        limit: > 0, the last knot; the others are equally spaced from −limit on.
        min_log_variance: log σ_k² is at least this.
        max_log_variance: and at most this.
    """

    log_prob_fault = "jump at the knots"

    def __init__(
        self,
        latent_dim: int,
        num_features: int | None = None,
        num_intervals: int = 8,
        limit: float = 3.0,
        min_log_variance: float = -10.0,
        max_log_variance: float = 10.0,
    ) -> None:
        super().__init__(latent_dim, num_features)
        check_at_least(self, 2, num_intervals=num_intervals)
        check_above(self, 0, limit=limit)
        check_above(self, min_log_variance, max_log_variance=max_log_variance)
        self.limit = limit
        self.bounds = min_log_variance, max_log_variance
        start = torch.zeros(3, latent_dim, num_intervals)
        start[0] = pieces_of(start[1, 0], torch.ones_like(start[1, 0]), limit).log_mass
        self.parameters_of = Parameters(num_features, 3, latent_dim, num_intervals, start=start)

    def forward(self, h: Tensor | None = None) -> Distribution:
        """Of batch shape (B,), or ()."""
        logits, loc, log_variance = full(self.parameters_of(h)).unbind(-3)
        scale = scale_of(log_variance, self.bounds)
        base = PiecewiseNormalDistribution(logits, loc, scale, self.limit, validate_args=False)
        return Independent(base, 1, validate_args=False)


@register_kl(PiecewiseNormalDistribution, PiecewiseNormalDistribution)
def _(q: PiecewiseNormalDistribution, p: PiecewiseNormalDistribution) -> Tensor:
    """Σ_k w_k (log w_k − log v_k + E_k[log q_k(z) − log p_k(z)]) with the moments of q_k, a normal's piece."""
    if (q.num_intervals, q.limit) != (p.num_intervals, p.limit):
        raise UserError(
            f"posterior and prior PiecewiseNormal have {q.num_intervals} and {p.num_intervals} intervals and the limits"
            f" {q.limit} and {p.limit}: set num_intervals and limit of both to the same"
        )
    ours, theirs = q.pieces, p.pieces
    inside = ours.expected_log_prob(ours) - ours.expected_log_prob(theirs)
    return (q.log_weights.exp() * (q.log_weights - p.log_weights + inside)).sum(-1)


@register_kl(PiecewiseNormalDistribution, Normal)
def _(q: PiecewiseNormalDistribution, p: Normal) -> Tensor:
    return kl_divergence(q, _cut(p, q))


@register_kl(Normal, PiecewiseNormalDistribution)
def _(q: Normal, p: PiecewiseNormalDistribution) -> Tensor:
    return kl_divergence(_cut(q, p), p)


def _cut(whole: Normal, like: PiecewiseNormalDistribution) -> PiecewiseNormalDistribution:
    """A normal in the form of a piecewise one."""
    shape = (*whole.batch_shape, like.num_intervals)
    loc, scale = whole.loc.unsqueeze(-1).expand(shape), whole.scale.unsqueeze(-1).expand(shape)
    logits = pieces_of(loc, scale, like.limit).log_mass
    return PiecewiseNormalDistribution(logits, loc, scale, like.limit, validate_args=False)
