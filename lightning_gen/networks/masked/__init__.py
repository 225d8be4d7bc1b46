"""Perceptrons whose masks make each output depend on the entries before it alone."""

from lightning_gen.networks.masked.base import MaskedNetwork
from lightning_gen.networks.masked.linear import MaskedLinear
from lightning_gen.networks.masked.mlp import MaskedMLP
from lightning_gen.networks.masked.residual import ResidualMADE

__all__ = ["MaskedLinear", "MaskedMLP", "MaskedNetwork", "ResidualMADE"]
