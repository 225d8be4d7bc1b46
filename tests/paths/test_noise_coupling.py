"""Which noise goes to which sample, against all permutations."""

from itertools import permutations

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.paths import Independent, MinibatchOptimalTransport, SinkhornTransport
from lightning_gen.paths.coupling import pair_costs


def pairs(n, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, generator=generator) for _ in range(2)]


def cost(noise, x):
    return (noise - x).square().sum().item()


def best(noise, x, allowed=lambda order: True):
    return min((cost(noise[list(order)], x), order) for order in permutations(range(len(x))) if allowed(order))[1]


def test_independent_noise_stays_where_it_is():
    noise, x = pairs(4, 2)
    assert Independent()(noise, x, None) is noise


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(2,), (1, 2, 3)])
def test_the_assignment_is_the_best_of_all(shape, seed):
    noise, x = pairs(4, *shape, seed=seed)
    assert torch.equal(MinibatchOptimalTransport()(noise, x, None), noise[list(best(noise, x))])


@pytest.mark.parametrize("y", [torch.tensor([0, 1, 0, 1, 0]), torch.tensor([[0, 1], [1, 1], [0, 1], [1, 1], [0, 1]])])
def test_noise_stays_with_its_class(y):
    rows = y.reshape(5, -1)

    def allowed(order):
        return torch.equal(rows[list(order)], rows)

    for seed in range(5):
        noise, x = pairs(5, 2, seed=seed)
        expected = noise[list(best(noise, x, allowed))]
        assert torch.equal(MinibatchOptimalTransport()(noise, x, y), expected)
        found = SinkhornTransport(0.02)(noise, x, y)
        own = [(noise[(rows == rows[i]).all(1)] == found[i]).all(1).any() for i in range(5)]
        assert all(own)


def test_the_noise_of_a_class_keeps_its_distribution():
    # classes that lie apart: were noise chosen among all of it, that of class 1 would lie to the right
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 2
    x = torch.randn(400, 1, generator=generator) + 6 * y[:, None]
    noise = torch.randn(400, 1, generator=generator)
    among_all, of_class = MinibatchOptimalTransport()(noise, x, None), MinibatchOptimalTransport()(noise, x, y)
    assert among_all[y == 1].mean() > 0.6
    assert abs(of_class[y == 1].mean()) < 0.3
    assert torch.equal(of_class[y == 1].sort(0).values, noise[y == 1].sort(0).values)


def test_costs_are_half_the_squared_distances():
    noise, x = pairs(6, 3)
    expected = torch.tensor([[(a - b).square().sum() / 2 for b in x] for a in noise])
    torch.testing.assert_close(pair_costs(noise, x), expected)


def test_the_plan_has_even_rows_and_columns():
    noise, x = pairs(6, 2)
    plan = SinkhornTransport(0.1, 200).log_plan(pair_costs(noise, x)).exp()
    torch.testing.assert_close(plan.sum(0), torch.full((6,), 1 / 6))
    torch.testing.assert_close(plan.sum(1), torch.full((6,), 1 / 6), rtol=0, atol=1e-3)
    # of the form u_i K_ij v_j: its logarithm plus the costs has mixed differences of 0
    kernel = plan.log() + pair_costs(noise, x) / (0.1 * pair_costs(noise, x).mean())
    torch.testing.assert_close(kernel[1:, 1:] + kernel[:1, :1], kernel[1:, :1] + kernel[:1, 1:], rtol=0, atol=1e-3)


def test_the_plan_becomes_the_assignment():
    noise, x = pairs(6, 2)
    assert torch.equal(SinkhornTransport(2e-3, 500)(noise, x, None), MinibatchOptimalTransport()(noise, x, None))


def test_draws_follow_the_plan(monkeypatch):
    noise, x = pairs(3, 2)
    transport = SinkhornTransport(0.5)
    log_plan = transport.log_plan(pair_costs(noise, x))
    monkeypatch.setattr(transport, "log_plan", lambda costs, forbidden: log_plan)
    torch.manual_seed(0)
    found = torch.stack([transport(noise, x, None) for _ in range(1500)])
    shares = (found[:, None] == noise[None, :, None]).all(3).float().mean(0)
    torch.testing.assert_close(shares, 3 * log_plan.exp(), rtol=0, atol=0.06)


@pytest.mark.parametrize(("arguments", "words"), [((0.0,), "regularisation is 0"), ((0.1, 0), "iterations is 0")])
def test_bad_arguments_of_the_plan_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        SinkhornTransport(*arguments)
