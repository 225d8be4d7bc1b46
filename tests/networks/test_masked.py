"""Masked perceptrons: who depends on whom, against the formula written out, and drawing against whole passes."""

from functools import partial

import pytest
import torch
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.networks.conditioning import indicators
from lightning_gen.networks.masked import MaskedLinear, MaskedMLP, MaskedNetwork, ResidualMADE

NETWORKS = {
    "one_layer": partial(MaskedMLP, width=9, direct_connections=False),
    "deep": partial(MaskedMLP, width=9, depth=3, direct_connections=False),
    "few_units": partial(MaskedMLP, width=2, depth=2),
    "residual": partial(ResidualMADE, width=9, depth=2),
}


@pytest.fixture(params=NETWORKS)
def make(request):
    def build(*arguments, **options):
        torch.manual_seed(0)
        # smooth, so that no unit is dead
        return NETWORKS[request.param](*arguments, activation=nn.Tanh, **options).double().eval()

    return build


def entries(rows, length, seed=0):
    return torch.randn(rows, length, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def the(order):
    return torch.tensor([order])


# -------------------------------------------------------------------- who depends on whom


@pytest.mark.parametrize("length", [1, 2, 5, 7])
def test_an_entry_is_told_of_all_before_it_and_of_nothing_else(make, length):
    network = make(length, 3, num_orders=4)
    for k in range(4):
        rank = network.ranks[k]
        jacobian = torch.autograd.functional.jacobian(lambda x, k=k: network(x, order=the(k))[0], entries(1, length))
        depends = (jacobian[:, :, 0] != 0).all(0)  # each of the three numbers
        assert torch.equal(depends, rank[:, None] > rank)


def test_weights_behind_the_mask_have_no_gradient(make):
    network = make(5, 2)
    network(entries(6, 5)).square().sum().backward()
    for layer in network.modules():
        if isinstance(layer, MaskedLinear):
            masked = layer.given[0] > layer.wanted[0][:, None]
            assert masked.any()
            assert (layer.weight.grad[masked] == 0).all()
            assert (layer.weight.grad[~masked] != 0).any()


def test_one_hidden_layer_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    network = MaskedMLP(4, 2, width=5).double()
    x = entries(3, 4)
    m = [int(d) for d in network.layers[0].wanted[0]]
    assert set(m) == {1, 2, 3}
    expected = torch.zeros(3, 2, 4, dtype=torch.float64)
    w, b = network.layers[0].weight, network.layers[0].bias
    v, c, a = network.out.weight, network.out.bias, network.direct.weight
    for n in range(3):
        for d in range(4):  # the conditional of entry d alone, from the entries before it alone
            for p in range(2):
                total = c[p * 4 + d] + sum(a[p * 4 + d, j] * x[n, j] for j in range(d))
                for k in range(5):
                    if m[k] < d + 1:
                        unit = b[k] + sum(w[k, j] * x[n, j] for j in range(4) if j + 1 <= m[k])
                        total = total + v[p * 4 + d, k] * unit.clamp(min=0)
                expected[n, p, d] = total
    torch.testing.assert_close(network(x), expected)


# -------------------------------------------------------------------- orders


def test_orders_are_part_of_the_network_and_not_of_a_run(make):
    network, global_state = make(6, 1, num_orders=5), torch.get_rng_state()
    torch.manual_seed(99)
    again = NETWORKS["deep"](6, 1, num_orders=5)
    assert torch.equal(network.ranks, again.ranks)
    assert not torch.equal(torch.get_rng_state(), global_state)
    assert network.ranks[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert len(network.ranks.unique(dim=0)) == 5
    assert (network.ranks.sort(1).values == torch.arange(1, 7)).all()
    assert {"ranks", "out.given", "out.wanted"} <= network.state_dict().keys()


def test_the_first_order_holds_unless_another_is_named(make):
    network, x = make(4, 2, num_orders=3), entries(2, 4)
    assert torch.equal(network(x), network(x, order=the(0)))
    assert not torch.allclose(network(x), network(x, order=the(1)))


@pytest.mark.parametrize("width", [3, 4, 9, 50])
def test_hidden_degrees_are_spread_over_all(width):
    network = MaskedMLP(5, 1, width=width, num_orders=2)
    for degrees in network.layers[0].wanted:
        counts = torch.bincount(degrees.long(), minlength=5)[1:]
        assert counts.sum() == width
        assert counts.max() - counts.min() <= 1


# -------------------------------------------------------------------- conditions


@pytest.mark.parametrize("order", [0, 1])
def test_classes_reach_every_entry_and_are_attributes(make, order):
    network, x = make(4, 2, num_orders=2, num_classes=3), entries(1, 4).expand(3, -1)
    y = torch.arange(3)
    out = network(x, y, the(order))
    assert (out[0] - out[1]).abs().min() > 0
    torch.testing.assert_close(out, network(x, indicators(y, 3, torch.float64), the(order)))


# -------------------------------------------------------------------- drawing


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("length", [1, 2, 6])
def test_numbers_while_drawing_are_those_of_a_whole_pass(make, num_classes, length):
    network = make(length, 3, num_orders=4, num_classes=num_classes)
    order = torch.tensor([1, 0, 3, 1, 3])  # and nobody's is 2
    x, y = entries(5, length), None if num_classes is None else torch.tensor([0, 2, 1, 1, 0])
    steps, rank = [], network.ranks[order].long()

    def draw(numbers):
        """What is `drawn` is x."""
        assert numbers.shape == (5, 3, 1)
        steps.append(numbers[:, :, 0])
        return x[rank == len(steps)].unsqueeze(1)

    assert torch.equal(network.ancestral(draw, order, y), x)
    assert len(steps) == length
    for n, k in enumerate(order):
        whole = network(x[n : n + 1], None if y is None else y[n : n + 1], k.view(1))[0]
        for place, numbers in enumerate(steps):
            torch.testing.assert_close(numbers[n], whole[:, rank[n] == place + 1][:, 0])


def test_every_unit_is_computed_once(make, monkeypatch):
    network, outputs = make(6, 2), []
    plain = nn.functional.linear
    monkeypatch.setattr(nn.functional, "linear", lambda x, w, *b: (outputs.append(len(w)), plain(x, w, *b))[1])
    network.ancestral(lambda numbers: numbers[:, 0], torch.zeros(4, dtype=torch.int64))
    assert sum(outputs) <= sum(layer.out_features for layer in network.modules() if isinstance(layer, MaskedLinear))


def test_nothing_is_drawn_for_nobody(make):
    assert make(3, 1).ancestral(lambda numbers: 1 / 0, torch.zeros(0, dtype=torch.int64)).shape == (0, 3)


# -------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: MaskedMLP(4, 1, width=0), ("MaskedMLP.width is 0", "at least 1")),
        (lambda: MaskedMLP(4, 1, depth=0), ("MaskedMLP.depth is 0", "at least 1")),
        (lambda: MaskedMLP(4, 1, num_orders=0), ("MaskedMLP.num_orders is 0", "at least 1")),
        (lambda: MaskedMLP(4, 1, dropout=1.0), ("MaskedMLP.dropout is 1.0", "[0, 1)")),
        (
            lambda: MaskedMLP(9, 1, width=7, direct_connections=False),
            ("MaskedMLP.width is 7", "at least 8", "direct_connections"),
        ),
        (lambda: ResidualMADE(9, 1, width=7), ("ResidualMADE.width is 7", "at least 8")),
        (lambda: ResidualMADE(9, 1, dropout=-0.1), ("ResidualMADE.dropout is -0.1",)),
    ],
)
def test_arguments_out_of_range_are_refused(network, words):
    with pytest.raises(UserError) as error:
        network()
    for word in words:
        assert word in str(error.value)


def test_dropout_is_of_training_alone():
    for network in (MaskedMLP(4, 1, width=16, dropout=0.5), ResidualMADE(4, 1, width=16, dropout=0.5)):
        x = torch.randn(2, 4)
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_a_network_of_ones_own_is_one_method():
    class Linear(MaskedNetwork):
        def __init__(self, num_entries, num_parameters):
            super().__init__(num_entries, num_parameters)
            self.out = MaskedLinear(self.ranks, self.output_degrees)

        def body(self, x, apply):
            return apply(self.out, x)

    network, x = Linear(3, 1), torch.randn(2, 3)
    expected = x @ network.out.weight.tril(-1).T + network.out.bias
    torch.testing.assert_close(network(x)[:, 0], expected)
