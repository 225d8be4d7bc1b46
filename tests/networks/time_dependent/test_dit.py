"""The diffusion transformer."""

import math

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.networks.time_dependent import DiT
from lightning_gen.networks.time_dependent.dit import grid_positions


def moved(network):
    with torch.no_grad():
        for weight in network.double().parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return network


def layer_norm(x):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, correction=0) + 1e-6)


def linear(layer, x):
    return x @ layer.weight.T + layer.bias


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def block(layer, x, c, heads):
    """Equation by equation: modulated layer norm, attention head by head, a gate; then a perceptron likewise."""
    beta1, gamma1, alpha1, beta2, gamma2, alpha2 = linear(layer.modulation, c).split(x.shape[2], dim=1)
    h = layer_norm(x) * (1 + gamma1[:, None]) + beta1[:, None]
    query, key, value = linear(layer.attention.qkv, h).split(x.shape[2], dim=2)
    size, mixed = x.shape[2] // heads, torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = torch.exp(query[:, :, part] @ key[:, :, part].transpose(1, 2) / math.sqrt(size))
        mixed[:, :, part] = weights / weights.sum(2, keepdim=True) @ value[:, :, part]
    x = x + alpha1[:, None] * linear(layer.attention.out, mixed)
    h = layer_norm(x) * (1 + gamma2[:, None]) + beta2[:, None]
    return x + alpha2[:, None] * linear(layer.perceptron[2], gelu(linear(layer.perceptron[0], h)))


@torch.no_grad()
def test_it_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    network = moved(DiT((4, 6), 3, 2, 8, 2, 2))
    x, t = torch.randn(2, 3, 4, 6).double(), torch.rand(2).double()
    c = network.embedding(t)
    patches = torch.stack([x[:, :, i : i + 2, j : j + 2].flatten(1) for i in (0, 2) for j in (0, 2, 4)], dim=1)
    h = patches @ network.entry.weight.flatten(1).T + network.entry.bias + grid_positions(2, 3, 8)
    for layer in network.blocks:
        h = block(layer, h, c, 2)
    beta, gamma = linear(network.modulation, c).split(8, dim=1)
    pixels = linear(network.exit, layer_norm(h) * (1 + gamma[:, None]) + beta[:, None])
    expected, place = torch.empty_like(x), 0
    for i in (0, 2):
        for j in (0, 2, 4):
            expected[:, :, i : i + 2, j : j + 2] = pixels[:, place].reshape(2, 3, 2, 2)
            place += 1
    torch.testing.assert_close(network(x, t), expected, atol=1e-6, rtol=1e-6)


def test_positions_are_sines_and_cosines_of_column_and_row():
    found = grid_positions(2, 3, 8)
    assert found.shape == (6, 8)
    for i in range(2):
        for j in range(3):
            expected = []
            for place in (j, i):
                expected += [math.sin(place), math.sin(place / 100), math.cos(place), math.cos(place / 100)]
            torch.testing.assert_close(found[3 * i + j], torch.tensor(expected))


def test_blocks_and_output_are_nothing_at_the_start():
    torch.manual_seed(0)
    network = DiT(8, 3, 2, 8, 2, 2, num_classes=3)
    tokens, c = torch.randn(2, 16, 8), torch.randn(2, 8)
    for layer in network.blocks:
        assert torch.equal(layer(tokens, c), tokens)
    assert network(torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([0, 2])).abs().max() == 0


def test_it_starts_as_published():
    torch.manual_seed(0)
    network = DiT(8, 3, 2, 96, 1, 2, num_classes=50)
    for weight in (network.embedding.first.weight, network.embedding.condition.embed.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    bound = math.sqrt(6 / (96 + 3 * 4))  # as a linear map of the patch
    assert 0.97 * bound < network.entry.weight.abs().max() <= bound
    assert "positions" not in network.state_dict()


@pytest.mark.parametrize(
    ("width", "depth", "heads", "millions"),
    [(384, 12, 6, 33), (768, 12, 12, 130), (1024, 24, 16, 458), (1152, 28, 16, 675)],
)
def test_the_published_sizes(width, depth, heads, millions):
    with torch.device("meta"):
        network = DiT(32, 4, 2, width, depth, heads, num_classes=1000)
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": (8, 7)}, r"patch_size is 2: it must divide both sides of image_size, \(8, 7\)"),
        ({"heads": 3}, "heads is 3: it must divide width, which is 8"),
        ({"width": 6}, "width is 6: it must be a multiple of 4"),
        ({"depth": 0}, "depth is 0"),
        ({"patch_size": 0}, "patch_size is 0"),
    ],
)
def test_what_is_not_possible_is_refused_of_dit(options, words):
    with pytest.raises(UserError, match=words):
        DiT(**{"image_size": 8, "width": 8, "depth": 1, "heads": 2} | options)
