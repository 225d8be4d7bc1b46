"""Velocities that are known, as networks of a sample and a time."""

import torch
from torch import nn

from lightning_gen.networks.time_dependent import TimeNetwork


class GaussianField(TimeNetwork):
    """The mean velocity of a path to data from N(m, s²) in each entry, m = mean + shift · y.

    With x_t ~ N(α m, v), v = α² s² + σ²: E[dx_t/dt | x_t] = α̇ m + (α α̇ s² + σ σ̇) (x_t − α m) / v.
    """

    def __init__(self, path, sample_shape=(2,), mean=0.5, std=0.3, shift=None, num_classes=None):
        super().__init__(sample_shape, num_classes)
        self.path, self.std = path, std
        self.mean = nn.Parameter(torch.tensor(mean))
        self.shift = nn.Parameter(torch.tensor(0.0 if shift is None else shift))

    def means(self, y, dropped=None):
        if y is None:
            return self.mean
        known = y.to(self.mean) if dropped is None else y.to(self.mean) * ~dropped
        return self.mean + self.shift * known

    def forward(self, x, t, y=None, dropped=None):
        assert t.shape == (len(x),)
        t = t.view(-1, *[1] * (x.ndim - 1))
        m = self.means(y, dropped).view(-1, *[1] * (x.ndim - 1)) if y is not None else self.mean
        (alpha, sigma), (alpha_rate, sigma_rate) = self.path.scales(t), self.path.rates(t)
        variance = alpha.square() * self.std**2 + sigma.square()
        slope = (alpha * alpha_rate * self.std**2 + sigma * sigma_rate) / variance
        return alpha_rate * m + slope * (x - alpha * m)


class Table(TimeNetwork):
    """A velocity that is the same at all points and times, learnt."""

    def __init__(self, sample_shape=(1,)):
        super().__init__(sample_shape)
        self.value = nn.Parameter(torch.zeros(1))

    def forward(self, x, t, y=None, dropped=None):
        return self.value.expand_as(x)
