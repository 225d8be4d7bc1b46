import pytest
import torch

from lightning_gen.metrics.extractors.inception_resize import resize_like_tensorflow

SIZES = [(32, 32), (28, 20), (299, 299), (512, 512), (64, 400), (1, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_equals_torch_fidelity(size, channels):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    x = torch.randint(0, 256, (2, channels, *size), dtype=torch.uint8)
    expected = interpolate_bilinear_2d_like_tensorflow1x(x.float(), (299, 299), align_corners=False)
    found = resize_like_tensorflow(x)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-5)


def test_resize_of_ramps():
    """By hand: an image that grows by 10 a column and 100 a row takes the value of its coordinates, up to the edge."""
    rows, columns = torch.arange(5.0), torch.arange(7.0)
    x = 100 * rows[:, None] + 10 * columns
    found = resize_like_tensorflow(x[None, None])[0, 0]
    point = torch.arange(299.0)
    y, x_ = (point * 5 / 299).clamp(max=4), (point * 7 / 299).clamp(max=6)
    torch.testing.assert_close(found, 100 * y[:, None] + 10 * x_, rtol=0, atol=2e-4)


def test_resize_leaves_its_input_alone():
    x = torch.rand(1, 3, 299, 299).contiguous(memory_format=torch.channels_last)
    before = x.clone()
    torch.testing.assert_close(resize_like_tensorflow(x), before, rtol=0, atol=0)
    torch.testing.assert_close(x, before, rtol=0, atol=0)
