"""Attention whose weights one can look at."""

import math

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks.attention import SelfAttention, VisibleAttention
from lightning_gen.networks.autoencoders import MultiHeadSelfAttention


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2])
def test_multi_head_attention_is_the_sum_over_positions(heads):
    torch.manual_seed(0)
    layer, x = MultiHeadSelfAttention(8, heads).double(), torch.randn(2, 8, 2, 3).double()
    rows = layer.norm(x).permute(0, 2, 3, 1).reshape(2, 6, 8)
    query, key, value = (
        rows @ w.T + b for w, b in zip(layer.qkv.weight.split(8), layer.qkv.bias.split(8), strict=True)
    )
    size = 8 // heads
    mixed, maps = torch.zeros(2, 6, 8).double(), torch.zeros(2, heads, 6, 6).double()
    for b in range(2):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(6):
                scores = [float(query[b, i, part] @ key[b, j, part]) / math.sqrt(size) for j in range(6)]
                total = sum(math.exp(score) for score in scores)
                for j, score in enumerate(scores):
                    maps[b, head, i, j] = math.exp(score) / total
                    mixed[b, i, part] += maps[b, head, i, j] * value[b, j, part]
    expected = x + (mixed @ layer.out.weight.T + layer.out.bias).transpose(1, 2).reshape(2, 8, 2, 3)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.attention_map(x), maps)


def test_pooled_attention_shows_the_weights_it_uses():
    torch.manual_seed(0)
    layer, x = SelfAttention(16).double(), torch.randn(2, 16, 4, 7).double()
    nn.init.constant_(layer.gamma, 0.7)
    weights = layer.attention_map(x)
    assert weights.shape == (2, 1, 28, math.prod(layer.key_size(4, 7))) == (2, 1, 28, 6)
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 1, 28).double())
    value = nn.functional.max_pool2d(layer.value(x), 2).flatten(2)
    mixed = torch.einsum("bnm,bcm->bcn", weights[:, 0], value).unflatten(2, (4, 7))
    torch.testing.assert_close(layer(x), x + 0.7 * layer.out(mixed))


def test_weights_of_half_precision_sum_to_one():
    torch.manual_seed(0)
    layer = MultiHeadSelfAttention(8, 2).bfloat16()
    weights = layer.attention_map(torch.randn(1, 8, 16, 16).bfloat16())
    torch.testing.assert_close(weights.sum(3), torch.ones(1, 2, 256))
    assert layer.key_size(16, 12) == (16, 12)


def test_both_are_visible():
    assert isinstance(SelfAttention(8), VisibleAttention)
    assert isinstance(MultiHeadSelfAttention(8), VisibleAttention)


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_divide_the_channels(heads):
    with pytest.raises(UserError, match=f"heads is {heads}: it must divide the 8 channels"):
        MultiHeadSelfAttention(8, heads)
