"""Batch norm whose gain and bias depend on a condition."""

import torch
from torch import Tensor, nn


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm with gain 1 + Wγ c and bias Wβ c (Dumoulin et al., ICLR 2017; de Vries et al., NIPS 2017).

    Args:
        channels: of the map.
        condition_dim: length d of the condition c: a one-hot class, or an embedding and a piece of the latent.
    """

    def __init__(self, channels: int, condition_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition_dim, channels, bias=False)
        self.bias = nn.Linear(condition_dim, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise (B, C, H, W) maps under (B, d) conditions."""
        gain, bias = self.gain(condition)[:, :, None, None], self.bias(condition)[:, :, None, None]
        return torch.addcmul(bias, self.norm(x), 1 + gain)
