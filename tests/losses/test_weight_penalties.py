"""Orthogonality of filters against inner products taken one by one, and clipping."""

import pytest
import torch
from losses_fakes import Linear, critic_turn, generator_turn, random
from torch import nn
from torch.nn.utils import parametrizations

from lightning_gen.errors import UserError
from lightning_gen.losses import GeneratorOrthogonal, Orthogonal, WeightClipping
from lightning_gen.losses.penalties import filter_overlap


def overlap_of(filters):
    """Σ_{i≠j} ⟨f_i, f_j⟩²."""
    pairs = [(i, j) for i in range(len(filters)) for j in range(len(filters)) if i != j]
    return sum(((filters[i] * filters[j]).sum() ** 2).item() for i, j in pairs)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 3, 2), nn.Flatten(), nn.Linear(5, 4)]
    return nn.Sequential(*layers, nn.Embedding(7, 4), nn.Linear(4, 1)).double()


def expected(net):
    conv, _, transposed, _, linear, _, _ = net
    filters = [list(conv.weight), [transposed.weight[:, k] for k in range(3)], list(linear.weight)]
    return sum(map(overlap_of, filters))


def test_every_filter_meets_every_other():
    net = network()
    assert filter_overlap(net).item() == pytest.approx(expected(net), rel=1e-12)


def test_both_players_have_the_term():
    net, x = network(), random(2, 3)
    on_discriminator = Orthogonal(0.5)(critic_turn(Linear(3), x, network=net))
    on_generator = GeneratorOrthogonal(0.5)(generator_turn(lambda z, y: z, x, network=net))
    assert on_discriminator.item() == pytest.approx(0.5 * expected(net))
    assert on_generator.item() == pytest.approx(0.5 * expected(net))


def test_orthogonal_filters_cost_nothing_whatever_their_length():
    linear = nn.Linear(6, 4).double()
    nn.init.orthogonal_(linear.weight)
    assert filter_overlap(linear).item() == pytest.approx(0, abs=1e-25)
    with torch.no_grad():
        linear.weight *= torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
    assert filter_overlap(linear).item() == pytest.approx(0, abs=1e-22)


def test_gradient_is_the_papers():
    """∇ ‖WWᵀ ⊙ (1 − I)‖² = 4 (WWᵀ ⊙ (1 − I)) W."""
    linear = nn.Linear(6, 4).double()
    w = linear.weight.detach()
    (gradient,) = torch.autograd.grad(filter_overlap(linear), linear.weight)
    torch.testing.assert_close(gradient, 4 * (w @ w.T * (1 - torch.eye(4))) @ w)


def test_spectral_norm_is_seen_through():
    plain, net = network(), network()
    parametrizations.spectral_norm(net[0])
    parametrizations.spectral_norm(net[4])
    state = {key: value.clone() for key, value in net.state_dict().items()}
    assert filter_overlap(net).item() == pytest.approx(expected(plain), rel=1e-12)
    assert all((net.state_dict()[key] == value).all() for key, value in state.items())  # no step of power iteration
    (slope,) = torch.autograd.grad(filter_overlap(net), net[0].parametrizations.weight.original)
    assert slope.abs().sum() > 0


def test_of_weight_norm_the_product_counts():
    net = network()
    before = filter_overlap(net)
    parametrizations.weight_norm(net[0])
    torch.testing.assert_close(filter_overlap(net), before)


def test_a_network_without_filters_is_refused():
    with pytest.raises(UserError, match=r"Embedding has no convolution or linear map"):
        filter_overlap(nn.Embedding(3, 4))


@pytest.mark.parametrize("kind", [Orthogonal, GeneratorOrthogonal])
def test_negative_weights_are_refused(kind):
    with pytest.raises(UserError, match=rf"{kind.__name__}.weight is -1.0: it must be at least 0"):
        kind(weight=-1.0)


# -------------------------------------------------------------------- constraints


def test_weights_are_clipped_and_buffers_are_not():
    net = network()
    with torch.no_grad():
        net[1].running_var.fill_(9.0)
        for p in net.parameters():
            p.copy_(random(*p.shape))
    before = [p.detach().clone() for p in net.parameters()]
    WeightClipping(0.3)(net)
    for old, new in zip(before, net.parameters(), strict=True):
        assert new.requires_grad
        assert new.is_leaf
        torch.testing.assert_close(new.detach(), old.where(old.abs() <= 0.3, 0.3 * old.sign()), rtol=0, atol=0)
    assert (net[1].running_var == 9).all()


@pytest.mark.parametrize("limit", [0.0, -0.01, float("nan")])
def test_limits_that_are_none_are_refused(limit):
    with pytest.raises(UserError, match=rf"WeightClipping.limit is {limit}: it must be above 0"):
        WeightClipping(limit)
