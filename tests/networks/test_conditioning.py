"""Classes and attributes, and the batch norm that they steer."""

import pytest
import torch
from torch import nn

from lightning_gen.networks.conditioning import Embed, indicators
from lightning_gen.networks.normalisation import ConditionalBatchNorm2d


def test_embed_looks_classes_up_and_adds_attributes():
    torch.manual_seed(0)
    embed = Embed(4, 3)
    table, y = embed.weight.detach(), torch.tensor([2, 0, 3, 2])
    torch.testing.assert_close(embed(y), torch.stack([table[2], table[0], table[3], table[2]]))
    torch.testing.assert_close(embed(torch.eye(4)[y]), embed(y))
    attributes = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 0]])
    torch.testing.assert_close(embed(attributes), torch.stack([table[0] + table[2] + table[3], torch.zeros(3)]))


@pytest.mark.parametrize("kind", ["classes", "attributes"])
def test_embed_learns_from_both_forms(kind):
    embed = Embed(3, 2)
    embed(torch.tensor([2, 0]) if kind == "classes" else torch.tensor([[0.0, 0, 1], [1, 0, 0]])).sum().backward()
    torch.testing.assert_close(embed.weight.grad, torch.tensor([[1.0, 1], [0, 0], [1, 1]]))


def test_indicators():
    found = indicators(torch.tensor([2, 0]), 3, torch.float64)
    torch.testing.assert_close(found, torch.tensor([[0, 0, 1], [1, 0, 0]], dtype=torch.float64))
    attributes = torch.tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(indicators(attributes, 3, torch.float64), attributes.double())


def test_conditional_batch_norm_by_hand():
    torch.manual_seed(0)
    norm = ConditionalBatchNorm2d(3, 2).double()
    x, c = 3 + 2 * torch.randn(5, 3, 2, 4).double(), torch.randn(5, 2).double()
    found = norm(x, c)
    for channel in range(3):
        values = x[:, channel]
        mean = values.sum() / values.numel()
        variance = ((values - mean) ** 2).sum() / values.numel()
        for b in range(5):
            gain = 1 + sum(norm.gain.weight[channel, k] * c[b, k] for k in range(2))
            bias = sum(norm.bias.weight[channel, k] * c[b, k] for k in range(2))
            expected = gain * (values[b] - mean) / (variance + 1e-5).sqrt() + bias
            torch.testing.assert_close(found[b, channel], expected)


def test_conditional_batch_norm_without_a_condition_is_batch_norm():
    torch.manual_seed(0)
    norm, plain = ConditionalBatchNorm2d(3, 2), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5)
    torch.testing.assert_close(norm(x, torch.zeros(4, 2)), plain(x))
    torch.testing.assert_close(norm.eval()(x, torch.zeros(4, 2)), plain.eval()(x))
