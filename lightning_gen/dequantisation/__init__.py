"""How discrete data become continuous values, for models of densities."""

from lightning_gen.dequantisation.base import Dequantisation
from lightning_gen.dequantisation.uniform import UniformDequantisation
from lightning_gen.dequantisation.variational import VariationalDequantisation

__all__ = ["Dequantisation", "UniformDequantisation", "VariationalDequantisation"]
