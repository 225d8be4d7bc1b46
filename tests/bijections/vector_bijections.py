"""Bijections of vectors as tests of them all build them: small, of float64, and far from the identity."""

from functools import partial

import torch
from torch.autograd.functional import jacobian

from lightning_gen.bijections import (
    IAF,
    MAF,
    NICE,
    AutoregressiveSpline,
    Compose,
    Logit,
    NeuralSpline,
    RealNVP,
    Standardise,
)

LEARNT = [NICE, RealNVP, NeuralSpline, MAF, IAF, AutoregressiveSpline]
FACTORIES = {kind.__name__: partial(kind, transforms=3, hidden_features=(6, 5)) for kind in LEARNT}
FACTORIES["Logit"] = Logit
FACTORIES["Standardise"] = partial(Standardise, mean=0.3, std=2.0)
FACTORIES["Compose"] = partial(
    Compose, bijections=[Standardise, FACTORIES["MAF"], FACTORIES["RealNVP"], FACTORIES["NeuralSpline"]]
)


def far(bijection, seed=0, scale=0.4):
    """The bijection with random weights, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in bijection.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator))
    return bijection.double()


def slogdet(function, x):
    """Log |det| of the Jacobian of (B, …) → (B, …), whose rows are independent: (B,)."""
    matrices = jacobian(lambda v: function(v).sum(0).flatten(), x).flatten(2).transpose(0, 1)
    return torch.linalg.slogdet(matrices)[1]
