"""How classes and attributes enter a network: one place for both forms of y.

y is (B,) integer classes, or (B, K) floating-point attributes in {0, 1}, of which several may hold at once. A class is
the special case of one attribute: both forms give the same numbers.
"""

import torch
from torch import Tensor, nn


class Embed(nn.Embedding):
    """A learnt vector for each class; the sum of those of the attributes that hold.

    Weights start from N(0, 1), as `nn.Embedding`'s.

    Args:
        num_classes: number of classes, or of attributes, K.
        dim: length d of the vectors.
    """

    def __init__(self, num_classes: int, dim: int) -> None:
        super().__init__(num_classes, dim)

    def forward(self, y: Tensor) -> Tensor:
        """Map (B,) classes or (B, K) attributes to (B, d) vectors."""
        return y @ self.weight.to(y.dtype) if y.is_floating_point() else super().forward(y)


def indicators(y: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Map (B,) classes to (B, K) one-hot vectors of a type; (B, K) attributes are such vectors already."""
    return (y if y.is_floating_point() else nn.functional.one_hot(y, num_classes)).to(dtype)
