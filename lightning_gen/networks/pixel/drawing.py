"""Drawing images pixel by pixel: with what was computed kept, and plainly."""

import torch
from torch import Tensor

from lightning_gen.losses.pixel_likelihoods import PixelLikelihood
from lightning_gen.networks.pixel.base import PixelNetwork
from lightning_gen.networks.pixel.pixel_by_pixel import PixelByPixel
from lightning_gen.noise import Noise


@torch.no_grad()
def draw_images(
    network: PixelNetwork,
    likelihood: PixelLikelihood,
    noise: Noise,
    y: Tensor | None = None,
    temperature: float = 1.0,
    begun: Tensor | None = None,
) -> Tensor:
    """Images (n, C, H, W), one a stream, in the mode that the network is in.

    The cost grows linearly with the number of pixels, but for attention to all of them, which is a small part of it.

    Args:
        network: what gives parameters.
        likelihood: what draws from them.
        noise: as many numbers are taken of a stream for each pixel, given or not.
        y: (n,) classes, (n, K) attributes, or None.
        temperature: > 0; below 1 for likelier and less diverse images, see `PixelLikelihood.draw`.
        begun: (n, C, h, W) the first rows, h ≤ H, to be gone on with; None for none.
    """
    (channels, height, width), turns = network.sample_shape, network.num_turns
    uniform = _uniforms(network, likelihood, noise)
    canvas = _canvas(network, noise)
    given = 0 if begun is None else begun.shape[2]
    if begun is not None:
        canvas[:, :channels, :given] = begun
    scan, each = PixelByPixel((height, width)), channels // turns
    for i in range(height):
        scan.to_row(i)
        above = network.above(canvas, y, scan)
        for j in range(width):
            scan.to_pixel(i, j)
            before = network.before(canvas, above, y, scan)
            for turn in range(turns if i >= given else 1):
                found = network.within(canvas, before, y, scan)
                if i >= given:
                    values = likelihood.draw(found[:, :, turn, 0, 0], uniform[:, i, j, turn], temperature)
                    canvas[:, turn * each : (turn + 1) * each, i, j] = values
    return canvas[:, :channels]


@torch.no_grad()
def draw_plainly(
    network: PixelNetwork,
    likelihood: PixelLikelihood,
    noise: Noise,
    y: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The same images as `draw_images`, by the whole network for each turn of each pixel; arguments as there."""
    (channels, height, width), turns = network.sample_shape, network.num_turns
    uniform = _uniforms(network, likelihood, noise)
    x, each = _canvas(network, noise)[:, :channels].clone(), channels // turns
    for i in range(height):
        for j in range(width):
            for turn in range(turns):
                found = network(x, y)[:, :, turn, i, j]
                values = likelihood.draw(found, uniform[:, i, j, turn], temperature)
                x[:, turn * each : (turn + 1) * each, i, j] = values
    return x


def _uniforms(network: PixelNetwork, likelihood: PixelLikelihood, noise: Noise) -> Tensor:
    """(n, H, W, T, ·) numbers in (0, 1)."""
    channels, height, width = network.sample_shape
    return noise.uniform(height, width, network.num_turns, likelihood.num_uniforms(channels))


def _canvas(network: PixelNetwork, noise: Noise) -> Tensor:
    """(n, C + 1, H, W): zeros, and a channel of ones."""
    channels, height, width = network.sample_shape
    weight = next(network.parameters())
    canvas = torch.zeros(len(noise), channels + 1, height, width, dtype=weight.dtype, device=noise.device)
    canvas[:, -1] = 1
    return canvas
