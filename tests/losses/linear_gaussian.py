"""A model with everything in closed form: z ~ N(m, I), x | z ~ N(Wz + b, σ²I), q(z | x) = N(Ax + c, diag s²)."""

from math import log, pi

import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from lightning_gen.losses.bounds import Inference

SIGMA = 0.5


class GivenNormal(Normal):
    """Draws that are given: what is drawn is a function of the parameters alone."""

    def __init__(self, loc, scale, epsilon):
        super().__init__(loc, scale, validate_args=False)
        self.epsilon = epsilon

    def rsample(self, sample_shape=()):
        drawn = self.loc + self.scale * self.epsilon
        assert drawn.shape[: len(sample_shape)] == tuple(sample_shape)
        return drawn


def normal(loc, scale, epsilon=None):
    base = Normal(loc, scale, validate_args=False) if epsilon is None else GivenNormal(loc, scale, epsilon)
    return Independent(base, 1, validate_args=False)


class LinearGaussian:
    def __init__(self, latent_dim=2, dim=3, seed=0):
        g = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)  # noqa: E731
        columns = torch.linalg.qr(draw(dim, latent_dim)).Q  # orthogonal: the true posterior's variables are independent
        self.w = (columns * torch.tensor([1.0, 0.6, 0.3], dtype=torch.float64)[:latent_dim]).requires_grad_()
        self.b, self.m = (0.3 * draw(dim)).requires_grad_(), (0.3 * draw(latent_dim)).requires_grad_()
        shapes = (latent_dim, dim), (latent_dim,), (latent_dim,)
        self.a, self.c, self.log_s = self.encoder = [
            torch.zeros(s, dtype=torch.float64).requires_grad_() for s in shapes
        ]
        self.generative = [self.w, self.b, self.m]
        self.x = draw(4, dim)
        self.use_true_posterior()
        with torch.no_grad():
            for parameter in self.encoder:  # near it, but not there
                parameter += 0.2 * draw(*parameter.shape)

    def use_true_posterior(self):
        with torch.no_grad():
            precision = 1 + self.w.square().sum(0) / SIGMA**2
            self.log_s.copy_(-0.5 * precision.log())
            self.a.copy_(self.w.T / SIGMA**2 / precision[:, None])
            self.c.copy_((self.m - self.w.T @ self.b / SIGMA**2) / precision)
        return self

    def inference(self, x=None, epsilon=None, prior_epsilon=None):
        """Draws of posterior (S, B, d) and prior are as given, or else random."""
        x = self.x if x is None else x
        mean = x @ self.a.T + self.c
        scale = self.log_s.exp().expand_as(mean)

        def likelihood(z, w, b):
            return Normal(z @ w.T + b, SIGMA).log_prob(x).sum(-1)

        return Inference(
            posterior=normal(mean, scale, epsilon),
            prior=normal(self.m, torch.ones_like(self.m), prior_epsilon),
            log_likelihood=lambda z: likelihood(z, self.w, self.b),
            frozen_log_likelihood=lambda z: likelihood(z, self.w.detach(), self.b.detach()),
            frozen_log_posterior=lambda z: normal(mean.detach(), scale.detach()).log_prob(z),
            frozen_log_prior=lambda z: normal(self.m.detach(), torch.ones_like(self.m)).log_prob(z),
        )

    def log_prob(self):
        """log p(x), (B,)."""
        covariance = self.w @ self.w.T + SIGMA**2 * torch.eye(len(self.b), dtype=torch.float64)
        return MultivariateNormal(self.w @ self.m + self.b, covariance).log_prob(self.x)

    def reconstruction(self):
        """E_q[log p(x | z)], (B,)."""
        errors = (self.x - (self.x @ self.a.T + self.c) @ self.w.T - self.b).square().sum(-1)
        variance = (self.w.square() * (2 * self.log_s).exp()).sum()
        return -(errors + variance) / (2 * SIGMA**2) - len(self.b) / 2 * log(2 * pi * SIGMA**2)

    def kl_per_latent(self):
        """(B, d)."""
        mean = self.x @ self.a.T + self.c - self.m
        return (mean.square() + (2 * self.log_s).exp() - 1) / 2 - self.log_s

    def elbo(self):
        return (self.reconstruction() - self.kl_per_latent().sum(-1)).mean()

    def gradients(self, loss, of=None):
        """In one row; of all parameters unless some are given."""
        parameters = of or self.generative + self.encoder
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        zeros = (torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True))
        return torch.cat([g.flatten() for g in zeros])

    def estimates(self, bound, of=None, rows=100, repeats=40, seed=0):
        """Gradients (repeats, P) of the bound, each the mean over `rows` copies of the data."""
        torch.manual_seed(seed)
        x = self.x.repeat(rows, 1)
        return torch.stack([self.gradients(bound(self.inference(x))[0], of) for _ in range(repeats)])


def assert_same_mean(a, b, deviations=4.5):
    """Estimates (R, P) agree within their standard errors; `b` may be the exact values (P,)."""
    error = a.var(0) / len(a)
    if b.dim() > 1:
        error, b = error + b.var(0) / len(b), b.mean(0)
    assert ((a.mean(0) - b).abs() <= deviations * error.sqrt() + 1e-10).all(), (a.mean(0) - b) / error.sqrt()
