"""Resampling against zeros put in by hand, scipy's convolution and pixels left out."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from lightning_gen.networks.fir import Blur, Downsample, Upsample

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def resampled(x, up, down, before, after, gain=1.0):
    """Zeros between pixels, zeros around (`before`, `after`), the filter, every `down`-th pixel: by scipy."""
    count, channels, height, width = x.shape
    found = []
    for image in x.reshape(-1, height, width).numpy():
        spread = np.zeros((height * up, width * up))
        spread[::up, ::up] = image
        padded = np.pad(spread, (before, after))
        found.append(convolve2d(padded, gain * FILTER, mode="valid")[::down, ::down])
    return torch.from_numpy(np.stack(found)).unflatten(0, (count, channels))


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (Upsample(), (2, 1, 2, 1, 4.0)),
        (Downsample(), (1, 2, 1, 1)),
        (Blur(padding=2), (1, 1, 2, 2)),
        (Blur(padding=1, gain=4.0), (1, 1, 1, 1, 4.0)),
    ],
    ids=["up", "down", "wide", "narrow"],
)
def test_it_is_zeros_filter_and_every_other_pixel(module, arguments):
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(module(x), resampled(x, *arguments))


def test_doubling_is_bilinear_inside():
    x = torch.randn(1, 2, 5, 7)
    bilinear = torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(Upsample()(x)[..., 1:-1, 1:-1], bilinear[..., 1:-1, 1:-1])


def test_filters_are_no_state_and_have_second_gradients():
    assert not Upsample().state_dict()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    for module in (Upsample(), Downsample(), Blur(2)):
        assert torch.autograd.gradgradcheck(lambda v, module=module: module(v).square(), x, fast_mode=True)
