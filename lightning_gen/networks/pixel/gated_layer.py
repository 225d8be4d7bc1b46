"""A layer of the gated PixelCNN's two stacks (van den Oord et al., NIPS 2016, arXiv:1606.05328, figure 2)."""

from torch import Tensor, nn

from lightning_gen.networks.conditioning import Embed
from lightning_gen.networks.pixel.scan import CausalConv, Scan, Window


class GatedLayer(nn.Module):
    """One layer of both stacks, whose kernels end at the position itself.

    Args:
        width: channels of each stack.
        kernel_size: side of the kernels before they are cut.
        dropout: before the last convolution of the horizontal stack.
        num_classes: number of classes, or of attributes; None for none.
    """

    def __init__(self, width: int, kernel_size: int, dropout: float, num_classes: int | None) -> None:
        super().__init__()
        reach = kernel_size // 2
        self.vertical = CausalConv(width, 2 * width, Window(reach, reach, reach, 0))
        self.horizontal = CausalConv(width, 2 * width, Window(reach, 0, 0, 0))
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = nn.Sequential(nn.Dropout(dropout), nn.Conv2d(width, width, 1))
        self.embed = Embed(num_classes, 4 * width) if num_classes else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, 0.0, 0.1)  # no more than the convolutions give at first

    def vertical_step(self, v: Tensor, y: Tensor | None, scan: Scan) -> tuple[Tensor, Tensor]:
        """(B, width, h, w) → the next layer's, and (B, 2·width, h, w) for this layer's horizontal stack."""
        features = self.vertical(v, scan)
        return self._gate(features, y, 0), self.link(features)

    def horizontal_step(self, h: Tensor, link: Tensor, y: Tensor | None, scan: Scan) -> Tensor:
        """(B, width, h, w) → the next layer's; `link` is of whole rows."""
        features = self.horizontal(h, scan) + scan.of_row(link)
        return h + self.out(self._gate(features, y, 1))

    def _gate(self, features: Tensor, y: Tensor | None, stack: int) -> Tensor:
        """Tanh(a + a_y) ⊙ σ(b + b_y) of the halves a, b of the features (eq. 4)."""
        if self.embed is not None:
            assert y is not None
            features = features + self.embed(y).to(features.dtype).chunk(2, dim=1)[stack][:, :, None, None]
        a, b = features.chunk(2, dim=1)
        return a.tanh() * b.sigmoid()
