"""Low-pass resampling by the separable filter [1, 3, 3, 1] / 8 (Karras et al., StyleGAN2, CVPR 2020, appendix B).

Doubling by it is bilinear interpolation, halving its transpose up to scale; images are zero beyond their edges. The
filter runs over each channel on its own, as a depthwise convolution, so no custom operator is needed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = (1.0, 3.0, 3.0, 1.0)


class FIR(nn.Module):
    """The 4×4 filter as a constant that follows the module to its device.

    Args:
        gain: the sum of the filter's entries.
    """

    kernel: Tensor

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor(TAPS)
        kernel = torch.outer(taps, taps) * (gain / taps.sum() ** 2)
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def depthwise(self, x: Tensor) -> Tensor:
        """The filter as the (C, 1, 4, 4) weight of a depthwise convolution over (B, C, H, W)."""
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class Upsample(FIR):
    """Doubles height and width, keeping the brightness: zeros between the pixels, then the filter with gain 4."""

    def __init__(self) -> None:
        super().__init__(gain=4.0)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return F.conv_transpose2d(x, self.depthwise(x), stride=2, padding=1, groups=x.shape[1])


class Downsample(FIR):
    """Halves height and width: the filter, then every other pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) of even sides to (B, C, H/2, W/2)."""
        return F.conv2d(x, self.depthwise(x), stride=2, padding=1, groups=x.shape[1])


class Blur(FIR):
    """The filter alone, before or after a convolution of stride 2.

    Args:
        padding: zeros on each side.
        gain: the sum of the filter's entries.
    """

    def __init__(self, padding: int, gain: float = 1.0) -> None:
        super().__init__(gain)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H + 2 padding - 3, W + 2 padding - 3)."""
        return F.conv2d(x, self.depthwise(x), padding=self.padding, groups=x.shape[1])
