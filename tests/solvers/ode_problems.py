"""Velocities whose solutions are known."""

import torch


def turning(x, t):
    """Turns (n, 2) around the origin, faster and faster: by an angle of t²."""
    return 2 * t[:, None] * torch.stack((-x[:, 1], x[:, 0]), dim=1)


def turned(x, start, end):
    angle = torch.tensor(end**2 - start**2, dtype=x.dtype)
    matrix = torch.stack((torch.stack((angle.cos(), -angle.sin())), torch.stack((angle.sin(), angle.cos()))))
    return x @ matrix.T


def points(n=5, dtype=torch.float64):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=dtype)
