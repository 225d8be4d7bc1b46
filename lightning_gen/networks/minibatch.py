"""Minibatch standard deviation (Karras et al., "Progressive Growing of GANs", ICLR 2018, §3).

A discriminator that sees how much the samples of a group differ notices when the generator's do not.
"""

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError


class MinibatchStd(nn.Module):
    """Appends to the features how much they vary within a group of samples.

    The standard deviation over the group of each feature, averaged over pixels and over the channels of one of
    `num_channels` parts, is the same number at all pixels of all samples of the group. A group is `group_size`
    consecutive samples, so that groups do not depend on how a batch is split over processes; where the batch is no
    multiple of that, the largest divisor of the batch below it. A batch that has no such divisor but 1 gives zeros.

    Args:
        group_size: samples that are compared, ≥ 1.
        num_channels: channels appended, ≥ 1; must divide the channels of the input.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, group_size: int = 4, num_channels: int = 1) -> None:
        super().__init__()
        for key, value in (("group_size", group_size), ("num_channels", num_channels)):
            if value < 1:
                raise UserError(f"MinibatchStd.{key} is {value}: it must be at least 1")
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, …) features to (B, C + num_channels, …)."""
        size = largest_divisor(x.shape[0], self.group_size)
        groups = x.unflatten(1, (self.num_channels, -1)).unflatten(0, (-1, size))  # (B/g, g, parts, C/parts, …)
        deviation = (groups.var(dim=1, correction=0) + 1e-8).sqrt()  # ε: a gradient where all are equal
        deviation = deviation.flatten(2).mean(dim=2).repeat_interleave(size, dim=0)  # (B, parts)
        deviation = deviation.view(*deviation.shape, *[1] * (x.ndim - 2))
        return torch.cat((x, deviation.to(x.dtype).expand(-1, -1, *x.shape[2:])), dim=1)


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number ≥ 1 that is at most `limit` ≥ 1."""
    return next(size for size in range(min(number, limit), 0, -1) if number % size == 0)
