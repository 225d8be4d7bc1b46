"""What families expect of a network that gives each pixel's distribution from the pixels before it."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError
from lightning_gen.networks.pixel.scan import AT_ONCE, Scan

Maps = list[list[Tensor]]
"""Maps of several resolutions, fine to coarse; several of each."""

_IMAGE_DIMS = 3


class PixelNetwork(nn.Module, ABC):
    """Gives parameters of every pixel's distribution from the pixels before it, in the order of reading.

    A family makes it from a factory, `Callable[[tuple[int, int, int], int, int], PixelNetwork]`, called with the first
    three arguments. A pixel is drawn in turns: in one, all of its channels, or one channel in each of C. Parameters of
    a turn may depend on the channels of turns before it in the same pixel, too.

    A network is three functions, by how often they change while an image is drawn: `above` with each row, `before`
    with each pixel, `within` with each turn. All take the canvas, (B, C + 1, H, W): the image and a channel of ones,
    which tells it from the zeros around it.

    Args:
        sample_shape: (C, H, W).
        num_parameters: P, of a turn's distribution.
        num_turns: T, 1 or C.
        num_classes: number of classes, or of attributes, it is conditioned on; None for an unconditional network.

    Raises:
        UserError: if samples are no images.
    """

    def __init__(
        self, sample_shape: tuple[int, int, int], num_parameters: int, num_turns: int, num_classes: int | None = None
    ) -> None:
        super().__init__()
        if len(sample_shape) != _IMAGE_DIMS:
            raise UserError(
                f"{type(self).__name__} models images, (channels, height, width), but samples have shape"
                f" {tuple(sample_shape)}: use another family, such as DeepDensityEstimator"
            )
        if num_turns not in (1, sample_shape[0]):
            raise ValueError(f"num_turns is {num_turns}: it must be 1 or the number of channels")
        self.sample_shape = sample_shape
        self.num_parameters = num_parameters
        self.num_turns = num_turns
        self.num_classes = num_classes

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters (B, P, T, H, W) of images (B, C, H, W) in model form."""
        canvas = torch.cat((x, torch.ones_like(x[:, :1])), dim=1)
        above = self.above(canvas, y, AT_ONCE)
        return self.within(canvas, self.before(canvas, above, y, AT_ONCE), y, AT_ONCE)

    def above(self, canvas: Tensor, y: Tensor | None, scan: Scan) -> Maps:
        """What rows above tell each row; nothing unless overridden."""
        return []

    def before(self, canvas: Tensor, above: Maps, y: Tensor | None, scan: Scan) -> list[Tensor]:
        """What all pixels before tell each pixel; nothing unless overridden."""
        return []

    @abstractmethod
    def within(self, canvas: Tensor, before: list[Tensor], y: Tensor | None, scan: Scan) -> Tensor:
        """Parameters (B, P, T, h, w) of pixels, of whose channels those of earlier turns may be seen."""
