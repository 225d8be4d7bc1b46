"""The causal transformer."""

import math
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.networks.autoregressive import CausalTransformer, TokenModel
from lightning_gen.networks.conditioning import indicators
from lightning_gen.noise import Noise

SHAPES = ((2, 2), (2, 3))


def made(*arguments, **options):
    torch.manual_seed(0)
    model = CausalTransformer(*arguments, **options).double()
    for weight in model.parameters():
        weight.data.mul_(8 if weight.ndim > 1 else 1)  # far from uniform
    return model


def test_a_position_sees_the_whole_past_and_nothing_else():
    model, kept = made(5, SHAPES, width=8, depth=1, heads=2), []
    model.embed.register_forward_hook(lambda _, __, out: kept.append(out))
    logits = model(torch.randint(5, (1, 10)))
    for i in range(10):
        (grad,) = torch.autograd.grad(logits[0, i] @ torch.randn(5).double(), kept[0], retain_graph=True)
        assert (grad[0].abs().sum(1) > 0).tolist() == [j < i for j in range(9)]


def test_no_token_changes_what_was_said_before_it():
    model = made(5, SHAPES, width=8, depth=3, heads=4)
    tokens = torch.randint(5, (1, 10))
    before = model(tokens)
    for j in range(10):
        other = tokens.clone()
        other[0, j] = (tokens[0, j] + 1) % 5
        changed = (model(other) - before)[0].abs().amax(1) > 1e-9
        assert changed.tolist() == [i > j for i in range(10)]


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_cache_draws_what_the_plain_sampler_does(num_classes):
    model = made(6, SHAPES, width=8, depth=3, heads=2, num_classes=num_classes).eval()
    seeds, y = torch.arange(5), None if num_classes is None else torch.tensor([0, 1, 2, 0, 1])
    tokens = model.draw(Noise(seeds), y, temperature=0.7)
    assert tokens.shape == (5, 10)
    assert len(tokens.unique()) == 6
    assert torch.equal(tokens, TokenModel.draw(model, Noise(seeds), y, temperature=0.7))
    assert torch.equal(tokens[3:], model.draw(Noise(seeds[3:]), None if y is None else y[3:], temperature=0.7))


def test_frequencies_are_the_probabilities():
    model = made(2, ((2,), (2,)), width=4, depth=1, heads=1).eval()
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


def test_a_block_is_that_of_torch():
    model = made(5, SHAPES, width=8, depth=1, heads=2)
    (block,) = model.blocks
    reference = nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation=nn.GELU("tanh"), batch_first=True, norm_first=True
    ).double()
    pairs = [
        (reference.self_attn.in_proj_weight, block.attention.qkv.weight),
        (reference.self_attn.in_proj_bias, block.attention.qkv.bias),
        (reference.self_attn.out_proj.weight, block.attention.out.weight),
        (reference.self_attn.out_proj.bias, block.attention.out.bias),
        (reference.linear1.weight, block.perceptron[0].weight),
        (reference.linear1.bias, block.perceptron[0].bias),
        (reference.linear2.weight, block.perceptron[2].weight),
        (reference.linear2.bias, block.perceptron[2].bias),
    ]
    with torch.no_grad():
        for theirs, ours in pairs:
            ours.add_(0.1 * torch.randn_like(ours))  # biases too
            theirs.copy_(ours)
    tokens = torch.randint(5, (2, 10))
    h = torch.cat((model.start.weight.expand(2, 1, -1), model.embed(tokens[:, :-1])), dim=1) + model.positions
    mask = torch.full((10, 10), -math.inf, dtype=torch.float64).triu(1)
    expected = model.head(reference(h, src_mask=mask))
    torch.testing.assert_close(model(tokens), expected)


def test_every_weight_learns_and_classes_matter():
    model = made(4, SHAPES, width=8, depth=2, heads=2, num_classes=3)
    tokens, y = torch.randint(4, (6, 10)), torch.arange(6) % 3
    F.cross_entropy(model(tokens, y).flatten(0, 1), tokens.flatten()).backward()
    for name, weight in model.named_parameters():
        assert weight.grad.abs().sum() > 0, name
    same = tokens[:1].expand(3, -1)
    found = model(same, torch.arange(3))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        assert ((found[a] - found[b]).abs().amax(1) > 1e-5).all()  # at every position, the first too
    torch.testing.assert_close(model(same, indicators(torch.arange(3), 3, torch.float64)), found)


def test_it_starts_as_gpt2():
    torch.manual_seed(0)
    model = CausalTransformer(50, ((10, 10),), width=64, depth=8, heads=4)
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[0].attention.qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[0].attention.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert model.blocks[-1].perceptron[2].weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert model.blocks[0].attention.qkv.bias.abs().max() == 0


def test_dropout_is_for_training():
    model, tokens = made(4, SHAPES, width=8, depth=2, heads=2, dropout=0.5), torch.randint(4, (1, 10))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 3}, "heads is 3: it must divide width, which is 8"),
        ({"depth": 0}, "depth is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_what_is_not_possible_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        CausalTransformer(4, SHAPES, **{"width": 8, "heads": 2} | options)
