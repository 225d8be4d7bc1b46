"""The gated PixelCNN."""

import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.autoregressive import GatedPixelCNN, TokenModel
from lightning_gen.networks.conditioning import indicators
from lightning_gen.noise import Noise


def made(*arguments, **options):
    torch.manual_seed(0)
    return GatedPixelCNN(*arguments, **options).double()


def influence(model, tokens, y=None):
    """Whether the output at i depends on the embedding of token j: (N, N)."""
    kept = []
    handle = model.embed.register_forward_hook(lambda _, __, out: kept.append(out))
    logits = model(tokens, y)
    handle.remove()
    found = []
    for i in range(logits.shape[1]):
        weights = torch.linspace(-1, 1, logits.shape[2], dtype=logits.dtype)
        (grad,) = torch.autograd.grad(logits[0, i] @ weights, kept[0], retain_graph=True)
        found.append(grad[0].flatten(0, 1).abs().sum(1) > 0)
    return torch.stack(found)


@pytest.mark.parametrize(("kernel_size", "depth"), [(3, 6), (5, 3)])
def test_a_position_sees_the_whole_past_and_nothing_else(kernel_size, depth):
    model = made(7, ((5, 6),), width=6, depth=depth, kernel_size=kernel_size)
    found = influence(model, torch.randint(7, (1, 30)))
    assert torch.equal(found, torch.ones(30, 30).tril(-1).bool())


def test_a_shallow_net_sees_what_it_says():
    model = made(7, ((6, 7),), width=6, depth=2, kernel_size=3)
    seen = influence(model, torch.randint(7, (1, 42)))[4 * 7 + 3].view(6, 7)
    expected = torch.zeros(6, 7).bool()
    expected[1:4, 1:6] = True  # from the shifted input 2 rows up, and 2 columns to each side
    expected[4, 0:3] = True
    assert torch.equal(seen, expected)


def test_a_layer_is_the_equation_at_one_position():
    model = made(5, ((3, 4),), width=3, depth=1, kernel_size=3, num_classes=2)
    tokens, y = torch.randint(5, (1, 12)), torch.tensor([1])
    (layer,) = model.layers
    embedded = F.pad(model.embed(tokens)[0].view(3, 4, 3), (0, 0, 2, 2, 2, 2))  # zeros outside of the map
    i, j = 1, 2

    def at(row, column):
        return embedded[row + 2, column + 2]

    v = layer.vertical.bias + sum(
        layer.vertical.weight[:, :, a, b] @ at(i - 2 + a, j - 1 + b) for a in range(2) for b in range(3)
    )
    h = layer.horizontal.bias + sum(layer.horizontal.weight[:, :, 0, b] @ at(i, j - 2 + b) for b in range(2))
    features = h + layer.link.weight[:, :, 0, 0] @ v + layer.link.bias + layer.embed.weight[1, 6:]
    gated = features[:3].tanh() * features[3:].sigmoid()
    out = at(i, j - 1) + layer.out[1].weight[:, :, 0, 0] @ gated + layer.out[1].bias
    for conv in (model.head[1], model.head[3]):
        out = conv.weight[:, :, 0, 0] @ out.clamp(min=0) + conv.bias
    torch.testing.assert_close(model(tokens, y)[0, i * 4 + j], out)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_quick_sampler_draws_what_the_plain_one_does(num_classes):
    model = made(6, ((4, 5),), width=8, depth=3, kernel_size=3, num_classes=num_classes).eval()
    model.head[3].weight.data.mul_(6)  # far from uniform
    seeds, y = torch.arange(5), None if num_classes is None else torch.tensor([0, 1, 2, 0, 1])
    tokens = model.draw(Noise(seeds), y, temperature=0.7)
    assert tokens.shape == (5, 20)
    assert len(tokens.unique()) > 3
    assert torch.equal(tokens, TokenModel.draw(model, Noise(seeds), y, temperature=0.7))
    assert torch.equal(tokens[3:], model.draw(Noise(seeds[3:]), None if y is None else y[3:], temperature=0.7))


def test_frequencies_are_the_probabilities():
    model = made(2, ((2, 2),), width=4, depth=2, kernel_size=3).eval()
    model.head[3].weight.data.mul_(20)
    sequences = torch.tensor(list(product((0, 1), repeat=4)))
    with torch.no_grad():
        steps = model(sequences).log_softmax(2).gather(2, sequences[:, :, None])
    p = steps.sum((1, 2)).exp()
    torch.testing.assert_close(p.sum(), torch.ones((), dtype=p.dtype))
    assert p.max() > 1.5 / 16
    n = 4000
    counts = torch.bincount(model.draw(Noise(torch.arange(n))) @ torch.tensor([8, 4, 2, 1]), minlength=16)
    statistic = float(((counts - n * p) ** 2 / (n * p)).sum())
    assert statistic < 15 + 4 * math.sqrt(2 * 15)  # χ² of 15 degrees of freedom, mean and four deviations


def test_every_weight_learns_and_classes_matter():
    model = made(4, ((3, 3),), width=16, depth=2, kernel_size=3, num_classes=3)
    tokens, y = torch.randint(4, (6, 9)), torch.arange(6) % 3
    F.cross_entropy(model(tokens, y).flatten(0, 1), tokens.flatten()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad.abs().sum() > 0, name
    same = tokens[:1].expand(3, -1)
    found = model(same, torch.arange(3))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        assert ((found[a] - found[b]).abs().amax(1) > 1e-5).all()  # at every position, the first too
    torch.testing.assert_close(model(same, indicators(torch.arange(3), 3, torch.float64)), found)


def test_dropout_is_for_training():
    model, tokens = made(4, ((3, 3),), width=4, depth=2, kernel_size=3, dropout=0.5), torch.randint(4, (1, 9))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize(
    ("shapes", "options", "words"),
    [
        (((2, 2), (4, 4)), {}, r"one map of codes.*\(2, 2\), \(4, 4\): use CausalTransformer"),
        (((2, 4, 4),), {}, "one map of codes"),
        (((16,),), {}, "one map of codes"),
        (((4, 4),), {"kernel_size": 4}, "kernel_size is 4: it must be odd"),
        (((4, 4),), {"depth": 0}, "depth is 0"),
        (((4, 4),), {"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_what_is_not_possible_is_refused(shapes, options, words):
    with pytest.raises(UserError, match=words):
        GatedPixelCNN(4, shapes, width=4, **options)
