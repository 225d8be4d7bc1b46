"""What augmentations of images share."""

import torch
from torch import Tensor


def needs_images(augmentation: str, shape: tuple[int, ...]) -> str | None:
    """What is wrong where samples of `shape` (without the batch) are not images, or None."""
    return None if len(shape) == 3 else f"{augmentation} is for images (C, H, W) only"


def needs_colours(key: str, shape: tuple[int, ...]) -> str | None:
    """What is wrong where images of `shape` (C, H, W) are neither grey nor of three colours, or None."""
    return None if shape[0] in (1, 3) else f"{key} takes 1 or 3 channels, not {shape[0]}; leave it out"


def happens(count: int, probability: Tensor | float, like: Tensor) -> Tensor:
    """(count,) booleans on the device of `like`, each true with a probability in [0, 1]."""
    return torch.rand(count, device=like.device) < probability
