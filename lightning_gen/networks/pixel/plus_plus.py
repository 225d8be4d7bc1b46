"""PixelCNN++ (Salimans, Karpathy, Chen, Kingma, ICLR 2017, arXiv:1701.05517)."""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least, check_dropout
from lightning_gen.networks.pixel.base import Maps, PixelNetwork
from lightning_gen.networks.pixel.gated_residual import GatedResidual, NormalisedConv
from lightning_gen.networks.pixel.head import PixelHead
from lightning_gen.networks.pixel.scan import Scan, Window

_ABOVE, _BESIDE = Window(1, 1, 1, 0), Window(1, 0, 1, 0)
"""What inner layers of the two streams see: 2×3 pixels that end below, 2×2 that end at the lower right."""


class PixelCNNPlusPlus(PixelNetwork):
    """Two streams of gated residual layers that go down to half the size, again, and back, past skip connections.

    One stream knows the rows above, the other all pixels before (§2.2 to §2.4, figure 2). Where channels have turns,
    they depend on each other in a head with a hidden layer; with one turn parameters are linear in the last features.

    Args:
        sample_shape: (C, H, W); the family's.
        num_parameters: P; the likelihood's.
        num_turns: T; the likelihood's.
        width: features of each stream.
        depth: residual layers of a stream at each size on the way down, ≥ 1; at larger sizes one more on the way up.
        num_sizes: 1 for no halving; both sides of the image must be multiples of 2^(num_sizes − 1).
        dropout: in the residual layers, in [0, 1).
        num_classes: classes, or attributes, add to every gate.

    Raises:
        UserError: if an argument is out of its range, or the image cannot be halved so often.
    """

    def __init__(
        self,
        sample_shape: tuple[int, int, int],
        num_parameters: int,
        num_turns: int,
        width: int = 160,
        depth: int = 5,
        num_sizes: int = 3,
        dropout: float = 0.5,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(sample_shape, num_parameters, num_turns, num_classes)
        check_at_least(self, 1, width=width, depth=depth, num_sizes=num_sizes)
        check_dropout(self, dropout)
        channels, height, image_width = sample_shape
        if height % 2 ** (num_sizes - 1) or image_width % 2 ** (num_sizes - 1):
            raise UserError(
                f"PixelCNNPlusPlus.num_sizes is {num_sizes}: images of {height}×{image_width} pixels cannot be halved"
                f" {num_sizes - 1} times; use fewer sizes"
            )
        self.rows_above = NormalisedConv(channels + 1, width, Window(1, 1, 2, -1))
        self.row_above = NormalisedConv(channels + 1, width, Window(1, 1, 1, -1))
        self.left = NormalisedConv(channels + 1, width, Window(1, -1, 1, 0))
        self.vertical = _Level(_ABOVE, width, 0, num_sizes, depth, dropout, num_classes)
        self.horizontal = _Level(_BESIDE, width, width, num_sizes, depth, dropout, num_classes)
        self.head: PixelHead | _LinearHead
        if num_turns == 1:
            self.head = _LinearHead(width, num_parameters)
        else:
            self.head = PixelHead(width, width, channels, num_parameters, num_turns)

    def above(self, canvas: Tensor, y: Tensor | None, scan: Scan) -> Maps:
        """The stream of the rows above."""
        return self.vertical(scan.look(self.rows_above, canvas), [], y, scan)[1]

    def before(self, canvas: Tensor, above: Maps, y: Tensor | None, scan: Scan) -> list[Tensor]:
        """The other stream."""
        entry = scan.look(self.row_above, canvas) + scan.look(self.left, canvas)
        return [self.horizontal(entry, above, y, scan)[0]]

    def within(self, canvas: Tensor, before: list[Tensor], y: Tensor | None, scan: Scan) -> Tensor:
        """The head."""
        return self.head(F.elu(before[0]), canvas, scan)


class _Level(nn.Module):
    """The layers of a stream at one size: down, then those at half the size, then up.

    Args:
        window: what its layers see.
        width: features.
        told: features that the other stream tells each layer; 0 for none.
        num_sizes: of this one and those below.
        depth: layers down.
        dropout: in the layers.
        num_classes: number of classes, or of attributes; None for none.
    """

    def __init__(
        self,
        window: Window,
        width: int,
        told: int,
        num_sizes: int,
        depth: int,
        dropout: float,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        last = num_sizes == 1
        down = nn.ModuleList(GatedResidual(width, window, dropout, told, num_classes) for _ in range(depth))
        up = [GatedResidual(width, window, dropout, told + width, num_classes) for _ in range(depth + (not last))]
        self.down = cast("list[GatedResidual]", down)
        self.up = cast("list[GatedResidual]", nn.ModuleList(up))
        self.coarse: _Coarse | None = None
        if not last:
            inner = _Level(window, width, told, num_sizes - 1, depth, dropout, num_classes)
            self.coarse = _Coarse(window, width, inner)

    def forward(self, x: Tensor, told: Maps, y: Tensor | None, scan: Scan) -> tuple[Tensor, Maps]:
        """Features, and what each layer of each size made of them.

        Args:
            x: (B, width, h, w).
            told: what each layer of the other stream made, of whole rows; empty for the first stream.
            y: the condition.
            scan: how the image is gone through.
        """
        layers = len(self.down) + len(self.up)
        hints = [[scan.of_row(hint)] for hint in told[0]] if told else [[] for _ in range(layers)]
        outputs, skips, deeper = [], [x], []
        for layer, hint in zip(self.down, hints[: len(self.down)], strict=True):
            x = layer(x, y, scan, *hint)
            outputs.append(x)
            skips.append(x)
        if self.coarse is None:
            skips.pop()
        else:
            x, deeper = self.coarse(x, told[1:], y, scan)
        for layer, hint in zip(self.up, hints[len(self.down) :], strict=True):
            x = layer(x, y, scan, *hint, skips.pop())
            outputs.append(x)
        return x, [outputs, *deeper]


class _Coarse(nn.Module):
    """A level at half the size, and the way to it and back.

    Args:
        window: what layers of the stream see.
        width: features.
        level: at half the size.
    """

    def __init__(self, window: Window, width: int, level: _Level) -> None:
        super().__init__()
        self.shrink = NormalisedConv(width, width, window, stride=2)
        self.level = level
        sides = window.right  # a stream that sees both sides grows to both
        kernel, pads = (2, 2 + sides), (0, sides)
        self.grow = nn.ConvTranspose2d(width, width, kernel, 2, padding=pads, output_padding=pads)
        weight_norm(self.grow, dim=1)

    def forward(self, x: Tensor, told: Maps, y: Tensor | None, scan: Scan) -> tuple[Tensor, Maps]:
        """As `_Level`; what the layers made is empty where a scan is between the pixels that they see."""
        found: Maps = []

        def inner(small: Tensor, scan: Scan) -> Tensor:
            small, maps = self.level(small, told, y, scan)
            found.extend(maps)
            return self.grow(small)

        return scan.halved(self.shrink, x, inner), found


class _LinearHead(nn.Module):
    """Parameters of one turn that are linear in the features.

    Args:
        in_channels: of the features.
        num_parameters: P.
    """

    def __init__(self, in_channels: int, num_parameters: int) -> None:
        super().__init__()
        self.out = NormalisedConv(in_channels, num_parameters)

    def forward(self, features: Tensor, canvas: Tensor, scan: Scan) -> Tensor:
        """(B, P, 1, h, w)."""
        return self.out(features, scan).unsqueeze(2)
