"""Residual blocks, against the papers' formulas read literally."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_gen.networks.biggan_deep import DeepDownBlock, DeepUpBlock
from lightning_gen.networks.residual import DownBlock, InputBlock, UpBlock


def image(channels, size=8):
    torch.manual_seed(0)
    return torch.randn(3, channels, size, size, dtype=torch.float64)


def check(block, x, expected, *condition):
    """The block's value is as expected and its input left as it was."""
    before = x.clone()
    torch.testing.assert_close(block(x, *condition), expected)
    assert torch.equal(x, before)


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_up_block(upsample):
    block, x = UpBlock(4, 6, upsample=upsample).double(), image(4)
    arguments = {"scale_factor": 2, "mode": upsample} | ({"align_corners": False} if upsample == "bilinear" else {})
    h = F.batch_norm(x, None, None, training=True).relu()
    h = block.conv1(F.interpolate(h, **arguments))
    h = block.conv2(F.batch_norm(h, None, None, training=True).relu())
    check(block, x, h + block.shortcut(F.interpolate(x, **arguments)))


def test_input_block():
    block, x = InputBlock(3, 6).double(), image(3)
    check(block, x, F.avg_pool2d(block.conv2(block.conv1(x).relu()), 2) + F.avg_pool2d(block.shortcut(x), 2))


@pytest.mark.parametrize(("after", "pool"), [(4, nn.AvgPool2d(2)), (6, nn.AvgPool2d(2)), (6, nn.Identity())])
def test_down_block_with_a_projected_shortcut(after, pool):
    block, x = DownBlock(4, after, 5, pool).double(), image(4)
    h = block.conv2(block.conv1(x.relu()).relu())
    assert block.conv1.out_channels == 5
    check(block, x, pool(h) + pool(block.shortcut(x)))


def test_down_block_that_keeps_the_shape_has_a_plain_shortcut():
    block, x = DownBlock(4, 4, 4, nn.Identity()).double(), image(4)
    check(block, x, x + block.conv2(block.conv1(x.relu()).relu()))


@pytest.mark.parametrize(("after", "up"), [(8, nn.Identity()), (4, nn.Upsample(scale_factor=2))])
def test_deep_up_block(after, up):
    block, x = DeepUpBlock(8, after, 2, up).double(), image(8)
    c = torch.randn(3, 2).double()
    h = block.reduce(block.norms[0](x, c).relu())
    h = block.conv1(up(block.norms[1](h, c).relu()))
    h = block.conv2(block.norms[2](h, c).relu())
    h = block.expand(block.norms[3](h, c).relu())
    assert h.shape[1] == after
    assert block.reduce.out_channels == 2
    check(block, x, h + up(x)[:, :after], c)


@pytest.mark.parametrize(("after", "pool"), [(8, nn.AvgPool2d(2)), (8, nn.Identity()), (4, nn.AvgPool2d(2))])
def test_deep_down_block(after, pool):
    block, x = DeepDownBlock(4, after, pool).double(), image(4)
    h = block.expand(pool(block.conv2(block.conv1(block.reduce(x.relu()).relu()).relu()).relu()))
    new = [] if after == 4 else [pool(block.gain(x))]
    check(block, x, h + torch.cat([pool(x), *new], dim=1))
    assert block.reduce.out_channels == after // 4
