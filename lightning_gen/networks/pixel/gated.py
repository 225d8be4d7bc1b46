"""Gated PixelCNN of images (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", NIPS 2016)."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.pixel.base import Maps, PixelNetwork
from lightning_gen.networks.pixel.gated_layer import GatedLayer
from lightning_gen.networks.pixel.head import PixelHead
from lightning_gen.networks.pixel.masked import check_kernels
from lightning_gen.networks.pixel.scan import CausalConv, Scan, Window


class GatedPixelNetwork(PixelNetwork):
    """Two stacks of gated convolutions (figure 2): nothing of the past is hidden from a pixel.

    The vertical stack sees the rows above, the horizontal one what is to the left and what the vertical one tells it.
    Only the first layer's windows leave the pixel out. A pixel sees `first_kernel_size` // 2 + `depth` ·
    (`kernel_size` // 2) rows up, and about as many columns to each side: choose them to span the image.

    The channels of a pixel depend on each other, where the likelihood needs it, in the head alone; in the paper all
    features belong to channels, as in `MaskedPixelCNN`.

    Args:
        sample_shape: (C, H, W); the family's.
        num_parameters: P; the likelihood's.
        num_turns: T; the likelihood's.
        width: channels of each stack.
        depth: number of layers, ≥ 1.
        first_kernel_size: side of the first kernels before they are cut, odd, ≥ 3.
        kernel_size: side of the others, likewise.
        head_width: hidden units of a turn in the head.
        dropout: in the horizontal stack, in [0, 1).
        num_classes: classes, or attributes, add to every gate (eq. 4).

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        num_parameters: int,
        num_turns: int,
        width: int = 64,
        depth: int = 8,
        first_kernel_size: int = 7,
        kernel_size: int = 3,
        head_width: int = 128,
        dropout: float = 0.0,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_parameters, num_turns, num_classes)
        check_at_least(self, 1, width=width, depth=depth, head_width=head_width)
        check_kernels(self, first_kernel_size=first_kernel_size, kernel_size=kernel_size)
        check_dropout(self, dropout)
        channels, reach = sample_shape[0], first_kernel_size // 2
        self.vertical = CausalConv(channels + 1, width, Window(reach, reach, reach, -1))
        self.horizontal = CausalConv(channels + 1, width, Window(reach, -1, 0, 0))
        layers = nn.ModuleList(GatedLayer(width, kernel_size, dropout, num_classes) for _ in range(depth))
        self.layers = cast("list[GatedLayer]", layers)
        self.head = PixelHead(width, head_width, channels, num_parameters, num_turns)

    def above(self, canvas: Tensor, y: Tensor | None, scan: Scan) -> Maps:
        """What the vertical stack tells each layer of the horizontal one."""
        links, v = [], scan.look(self.vertical, canvas)
        for layer in self.layers:
            v, link = layer.vertical_step(v, y, scan)
            links.append(link)
        return [links]

    def before(self, canvas: Tensor, above: Maps, y: Tensor | None, scan: Scan) -> list[Tensor]:
        """The horizontal stack."""
        h = scan.look(self.horizontal, canvas)
        for layer, link in zip(self.layers, above[0], strict=True):
            h = layer.horizontal_step(h, link, y, scan)
        return [h]

    def within(self, canvas: Tensor, before: list[Tensor], y: Tensor | None, scan: Scan) -> Tensor:
        """The head."""
        return self.head(F.relu(before[0]), canvas, scan)
