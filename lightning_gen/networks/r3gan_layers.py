"""What R3GAN's two networks are made of (Huang et al., NeurIPS 2024, §4): blocks without normalisation, and their size.

Blocks start as the identity: the last convolution is zero, the others are scaled down by the number of blocks L as
L^(-1/4) (Zhang, Dauphin, Ma, "Fixup Initialization", ICLR 2019).
"""

import math
from typing import TypeVar

from torch import Tensor, nn

from lightning_gen.errors import UserError

SLOPE = 0.2
"""Of the leaky ReLUs."""

_GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through a leaky ReLU (He et al., ICCV 2015)

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def scaled(layer: Layer, gain: float = 1.0) -> Layer:
    """Draw a layer's weights from N(0, gain² / inputs) and zero its bias; returns the layer."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """x + f(x), where f widens by 1×1, convolves by groups, and narrows by a 1×1 convolution that starts at zero.

    Args:
        width: channels.
        groups: of the 3×3 convolution.
        expansion: how many times wider the middle is.
        depth: number L of such blocks in the network.
    """

    def __init__(self, width: int, groups: int, expansion: int, depth: int) -> None:
        super().__init__()
        inner, gain = expansion * width, _GAIN * depth**-0.25
        last = nn.Conv2d(inner, width, 1, bias=False)
        nn.init.zeros_(last.weight)
        self.layers = nn.Sequential(
            scaled(nn.Conv2d(width, inner, 1), gain),
            nn.LeakyReLU(SLOPE),
            scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=groups), gain),
            nn.LeakyReLU(SLOPE),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return x + self.layers(x)


def stage(width: int, blocks: int, groups: int, expansion: int, depth: int) -> nn.Sequential:
    """Residual blocks of one width; arguments as `ResidualBlock`'s."""
    return nn.Sequential(*(ResidualBlock(width, groups, expansion, depth) for _ in range(blocks)))


def transition(before: int, after: int) -> nn.Module:
    """A 1×1 convolution between stages of different widths; nothing between equal ones."""
    return nn.Identity() if before == after else scaled(nn.Conv2d(before, after, 1, bias=False))


def base_size(network: str, image_size: int | tuple[int, int], stages: int) -> tuple[int, int]:
    """The (height, width) of the smallest maps of a network of so many stages.

    Raises:
        UserError: if the image cannot be halved that often, or its smaller side would not end at 2 to 7 pixels.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    factor = 2 ** (stages - 1)
    if stages < 1 or any(side % factor for side in sides) or not 2 <= min(sides) // factor <= 7:
        fits = [n for n in range(1, 13) if all(side % 2 ** (n - 1) == 0 for side in sides)]
        fits = [n for n in fits if 2 <= min(sides) >> (n - 1) <= 7]
        right = " or ".join(map(str, fits)) or "another size, of 2 to 7 pixels times a power of two"
        raise UserError(
            f"{network}.widths has {stages} entries, one a stage, and image_size is {image_size}: that takes {right},"
            " so that halving ends at 2 to 7 pixels"
        )
    return sides[0] // factor, sides[1] // factor


def per_stage(network: str, key: str, value: int | tuple[int, ...], stages: int) -> tuple[int, ...]:
    """One number ≥ 1 for each stage.

    Raises:
        UserError: if there are fewer or more numbers than stages, or one is below 1.
    """
    values = (value,) * stages if isinstance(value, int) else tuple(value)
    if len(values) != stages:
        raise UserError(f"{network}.{key} is {value}: it must be one number, or as many as widths ({stages})")
    if any(number < 1 for number in values):
        raise UserError(f"{network}.{key} is {value}: it must be at least 1")
    return values


def check_groups(network: str, widths: tuple[int, ...], cardinality: tuple[int, ...], expansion: int) -> None:
    """See that the grouped convolutions can be split.

    Raises:
        UserError: if `expansion` is below 1, or a cardinality does not divide its stage's width times `expansion`.
    """
    if expansion < 1:
        raise UserError(f"{network}.expansion is {expansion}: it must be at least 1")
    for width, groups in zip(widths, cardinality, strict=True):
        if (expansion * width) % groups:
            raise UserError(
                f"{network}.cardinality is {groups} where the stage is {width} wide: it must divide expansion times"
                f" that, {expansion * width}"
            )
