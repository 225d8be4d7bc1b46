"""Second ways of computing what distributions say of themselves."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from lightning_gen.distributions import draw
from lightning_gen.noise import Noise, sample_seeds

_X, _W = (torch.tensor(v) for v in np.polynomial.legendre.leggauss(200))


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor(v, dtype=torch.float64) for v in values]


def integral(f, *edges: float) -> Tensor:
    """∫ f from the first edge to the last, of a function that is smooth between edges."""
    total = torch.zeros((), dtype=torch.float64)
    for a, b in pairwise(edges):
        total = total + (f(a + (b - a) * (_X + 1) / 2) * _W).sum() * (b - a) / 2
    return total


def divergence(q, p, *edges: float) -> Tensor:
    return integral(lambda z: q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z)), *edges)


def sample_gradients(make, parameters: list[Tensor], f, num: int = 8000) -> list[tuple[Tensor, Tensor]]:
    """Means over samples of ∂f(z)/∂parameter, and their standard errors."""
    torch.manual_seed(0)
    each = [p.detach().expand(num, *p.shape).clone().requires_grad_() for p in parameters]
    gradients = torch.autograd.grad(f(make(*each).rsample()).sum(), each)
    return [(g.mean(0), g.std(0) / num**0.5) for g in gradients]


def check_sample_gradients(make, parameters: list[Tensor], f, *edges: float) -> None:
    """Against the derivative of ∫ f p."""
    free = [p.clone().requires_grad_() for p in parameters]
    expected = torch.autograd.grad(integral(lambda z: f(z) * make(*free).log_prob(z).exp(), *edges), free)
    for (mean, error), true in zip(sample_gradients(make, parameters, f), expected, strict=True):
        assert ((mean - true).abs() <= 4.5 * error + 1e-4).all(), (mean, true, error)


def check_draws(posterior, prior, num_features: int = 3) -> None:
    """A draw depends on its own stream and features alone, whatever the group that it is made in."""
    torch.manual_seed(1)
    h, seeds = torch.randn(5, num_features).double(), sample_seeds(3, torch.arange(5))
    for of in (lambda rows: posterior.double()(h[rows]), lambda rows: prior.double()()):
        whole = draw(of(slice(0, 5)), Noise(seeds), 2)
        parts = [draw(of(rows), Noise(seeds[rows]), 2) for rows in (slice(0, 1), slice(1, 3), slice(3, 5))]
        assert whole.shape == (2, 5, posterior.sample_dim)
        assert torch.isfinite(whole).all()
        assert (whole[:, :1] != whole[:, 1:]).any(-1).all()
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-9, atol=1e-12)


def check_layers(posterior, prior, divergence_estimate: bool = True) -> None:
    """Shapes, finite gradients to every weight in float32, and a divergence that is the mean log ratio."""
    torch.manual_seed(0)
    q, p = posterior(torch.randn(4, posterior.num_features)), prior()
    assert (q.batch_shape, p.batch_shape, q.event_shape) == ((4,), (), (posterior.sample_dim,))
    z = q.rsample((7,))
    assert z.shape == (7, 4, posterior.sample_dim)
    assert posterior.mean(q).shape == (4, posterior.sample_dim)
    assert q.expand((3, 4)).log_prob(z[:3]).shape == (3, 4)
    loss = (q.log_prob(z) - p.log_prob(z)).mean() + z.square().clamp(max=9).mean()
    weights = [w for layer in (posterior, prior) for w in layer.parameters()]
    if divergence_estimate:
        loss = loss + kl_divergence(q, p).mean()
        with torch.no_grad():
            ratio = (q.log_prob(z := q.rsample((4000,))) - p.log_prob(z)).double()
            gap = (ratio.mean(0) - kl_divergence(q, p)).abs()
            assert (gap < 5 * ratio.std(0) / len(z) ** 0.5 + 1e-4).all()
    for gradient in torch.autograd.grad(loss, weights):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0
