"""The gated residual layers of PixelCNN++ (Salimans et al., ICLR 2017, arXiv:1701.05517)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.pixel.scan import HERE, CausalConv, Scan, Window


class NormalisedConv(CausalConv):
    """A causal convolution with weight normalisation (Salimans, Kingma, NIPS 2016), w = g v / ‖v‖.

    g starts from ‖v‖, and not from data as in the authors' programs.

    Args:
        in_channels: of the map.
        out_channels: of what comes out.
        window: what it sees.
        stride: of columns and rows.
        scale: of the weights at first, relative to torch's own.
    """

    def __init__(
        self, in_channels: int, out_channels: int, window: Window = HERE, stride: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__(in_channels, out_channels, window, stride)
        with torch.no_grad():
            self.weight.mul_(scale)
        weight_norm(self)


class GatedResidual(nn.Module):
    """x + a ⊙ σ(b), (a, b) from two convolutions, each after concat-ELU.

    Args:
        width: channels of the map.
        window: what the convolutions see.
        dropout: between them.
        extra: channels of a second input at the same place, after the first convolution; 0 for none.
        num_classes: number of classes, or of attributes, that add to a and b; None for none.
    """

    def __init__(
        self, width: int, window: Window, dropout: float, extra: int = 0, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.first = NormalisedConv(2 * width, width, window)
        self.extra = NormalisedConv(2 * extra, width) if extra else None
        self.dropout = nn.Dropout(dropout)
        self.second = NormalisedConv(2 * width, 2 * width, window, scale=0.1)
        self.embed = Embed(num_classes, 2 * width) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.1)

    def forward(self, x: Tensor, y: Tensor | None, scan: Scan, *extra: Tensor) -> Tensor:
        """Map (B, width, h, w), and second inputs side by side, to the same shape."""
        h = self.first(concat_elu(x), scan)
        if self.extra is not None:
            h = h + self.extra(concat_elu(torch.cat(extra, dim=1)), scan)
        h = self.second(self.dropout(concat_elu(h)), scan)
        if self.embed is not None:
            assert y is not None
            h = h + self.embed(y).to(h.dtype)[:, :, None, None]
        a, b = h.chunk(2, dim=1)
        return x + a * b.sigmoid()


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of −x, side by side: (B, 2C, …)."""
    return F.elu(torch.cat((x, -x), dim=1))
