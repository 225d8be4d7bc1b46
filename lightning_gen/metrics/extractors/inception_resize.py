"""TensorFlow 1's bilinear resize, with which every published FID is made."""

import torch
from torch import Tensor

SIZE = 299
"""Height and width of what the FID Inception sees."""


def resize_like_tensorflow(x: Tensor) -> Tensor:
    """Bilinear resize to 299×299, neither antialiased nor aligned to the centres of pixels.

    Output column j lies between columns ⌊j W / 299⌋ and the next, rows likewise; beyond the edge it is repeated.

    Source: `ResizeBilinear` of the TensorFlow graph of 2015-12-05, with `align_corners=False`.

    Args:
        x: (B, C, H, W), uint8 or floating point.

    Returns:
        (B, C, 299, 299) float32 in the units of `x`, with channels last in memory: neighbours are then copied in
        stretches, and the network wants them so.
    """
    columns_first = _interpolate(x.permute(0, 2, 3, 1).contiguous(), dim=2)  # rounds as the graph does
    return _interpolate(columns_first, dim=1).permute(0, 3, 1, 2)


def _interpolate(x: Tensor, dim: int) -> Tensor:
    """299 points along rows (`dim` 1) or columns (2) of (B, H, W, C), in float32."""
    size = x.shape[dim]
    # the scale is rounded to float32 before it is used, as in the graph
    scale = torch.tensor(size / SIZE, dtype=torch.float32, device=x.device)
    position = torch.arange(SIZE, dtype=torch.float32, device=x.device) * scale
    low = position.long()
    high = (low + 1).clamp(max=size - 1)
    weight = (position - low).view(-1, *[1] * (3 - dim))
    start, end = (x.index_select(dim, index).float() for index in (low, high))
    return start + end.sub_(start).mul_(weight)
