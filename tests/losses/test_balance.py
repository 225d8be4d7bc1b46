"""The weight between two losses, against differentiating everything by hand."""

import pytest
import torch
from torch import nn

from lightning_gen.losses.balance import balanced


def losses(seed=0, batch=4):
    """A small decoder: its weights, its outputs, two losses of them, and a parameter of the first loss."""
    torch.manual_seed(seed)
    first, last = nn.Parameter(torch.randn(3, 2).double()), nn.Parameter(torch.randn(5, 3).double())
    scale = nn.Parameter(torch.tensor(0.7).double())
    z, x = torch.randn(batch, 2).double(), torch.randn(batch, 5).double()
    outputs = (z @ first.T).tanh() @ last.T
    reconstruction = ((outputs - x) * scale).square().sum(1).mean()
    return first, last, scale, outputs, reconstruction, outputs.sin().sum(1).mean()


@pytest.mark.parametrize("weight", [0.8, 3.0])
def test_gradients_and_weight_are_those_of_the_whole_graph(weight):
    first, last, scale, outputs, reconstruction, game = losses()
    norms = [torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (reconstruction, game)]
    expected = weight * norms[0] / (norms[1] + 1e-6)
    total = reconstruction + expected.detach() * game
    gradients = torch.autograd.grad(total, (first, last, scale), retain_graph=True)
    found, factor = balanced(reconstruction, game, weight, outputs, [scale], last, lambda x: x)
    torch.testing.assert_close(factor, expected)
    torch.testing.assert_close(torch.autograd.grad(found, (first, last, scale)), gradients)
    assert not factor.requires_grad


def test_a_game_without_gradient_has_a_bounded_weight():
    _, last, scale, outputs, reconstruction, _ = losses()
    _, factor = balanced(reconstruction, (outputs * 0).sum(), 0.5, outputs, [scale], last, lambda x: x)
    assert factor.item() == 0.5e4


def test_processes_find_the_weight_of_their_joint_batch():
    _, last, scale, outputs, _, _ = losses(batch=8)
    x, gathered = torch.randn(8, 5).double(), []

    def of(rows):
        part = outputs[rows]
        return ((part - x[rows]) * scale).square().sum(1).mean(), part.sin().sum(1).mean()

    def run(rows, mean):
        return balanced(*of(rows), 1.0, outputs, [scale], last, mean)

    *_, expected = run(slice(0, 8), lambda g: g)
    run(slice(0, 4), lambda g: gathered.append(g) or g)
    *_, factor = run(slice(4, 8), lambda g: (g + gathered[0]) / 2)
    torch.testing.assert_close(factor, expected)
