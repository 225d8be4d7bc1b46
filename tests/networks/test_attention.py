"""Self-attention."""

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks.attention import SelfAttention, attended, attention_at


@pytest.mark.parametrize("size", [(4, 4), (6, 2), (5, 3)])
def test_it_is_the_sum_over_positions(size):
    torch.manual_seed(0)
    layer = SelfAttention(16).double()
    nn.init.constant_(layer.gamma, 0.7)
    x = torch.randn(2, 16, *size).double()
    query, key, value, out = (conv.weight[:, :, 0, 0] for conv in (layer.query, layer.key, layer.value, layer.out))
    rows, columns = size[0] // 2, size[1] // 2
    expected = x.clone()
    for b in range(2):
        pooled = []
        for matrix in (key, value):
            maps = torch.einsum("oc,chw->ohw", matrix, x[b])
            windows = [
                [maps[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].amax(dim=(1, 2)) for j in range(columns)]
                for i in range(rows)
            ]
            pooled.append([window for row in windows for window in row])
        for i in range(size[0]):
            for j in range(size[1]):
                q = query @ x[b, :, i, j]
                weights = torch.stack([(q * k).sum() for k in pooled[0]]).softmax(dim=0)
                mixed = sum(w * v for w, v in zip(weights, pooled[1], strict=True))
                expected[b, :, i, j] += 0.7 * (out @ mixed)
    torch.testing.assert_close(layer(x), expected)


def test_it_starts_as_the_identity_and_learns_to_leave_it():
    torch.manual_seed(0)
    layer, x = SelfAttention(8), torch.randn(2, 8, 4, 4)
    found = layer(x)
    assert torch.equal(found, x)
    found.square().sum().backward()
    assert layer.gamma.grad.abs() > 0


def test_it_is_found_after_the_first_map_of_a_resolution():
    layers = attention_at([16, 4], [(8, 8), (16, 24), (16, 24), (4, 6)], [8, 8, 8, 16])
    assert [type(layer) for layer in layers] == [nn.Identity, SelfAttention, nn.Identity, SelfAttention]
    assert layers[3].query.in_channels == 16
    blocks = [nn.ReLU() for _ in range(4)]
    assert [type(stage) for stage in attended(blocks, layers)] == [nn.ReLU, nn.Sequential, nn.ReLU, nn.Sequential]


def test_other_resolutions_are_refused():
    with pytest.raises(UserError, match=r"attention at 5 pixels .* sides 8, 16"):
        attention_at([8, 5], [(8, 8), (16, 16)], [4, 4])
