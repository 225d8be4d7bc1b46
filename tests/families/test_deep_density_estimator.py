"""Deep density estimators: probabilities by enumeration, densities by quadrature, samples by counting."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch.nn.functional import log_softmax, logsigmoid

from lightning_gen.data import Digits, Moons2D, Ring2D, Thresholded
from lightning_gen.dequantisation import UniformDequantisation
from lightning_gen.errors import UserError
from lightning_gen.families import DeepDensityEstimator
from lightning_gen.losses.likelihoods import (
    Bernoulli,
    Categorical,
    DiscretisedLogisticMixture,
    Gaussian,
    GaussianMixture,
    LogisticMixture,
)
from lightning_gen.metrics.held_out import NegativeLogLikelihood
from lightning_gen.metrics.held_out.likelihood import is_discrete
from lightning_gen.networks.masked import MaskedMLP, ResidualMADE
from lightning_gen.noise import Noise, sample_seeds

ADAM = partial(torch.optim.Adam, lr=1e-2)
SMALL = partial(MaskedMLP, width=8, depth=2)
CASES = {
    "binary": ([1, 2, 2], Bernoulli(), SMALL),
    "one_layer": ([1, 2, 3], Bernoulli(), partial(MaskedMLP, width=7, direct_connections=False)),
    "larger": ([1, 3, 3], Bernoulli(), SMALL),
    "residual": ([1, 2, 2], Bernoulli(), partial(ResidualMADE, width=8)),
    "orders": ([1, 2, 2], Bernoulli(), partial(SMALL, num_orders=3)),
    "categorical": ([4], Categorical(3), SMALL),
    "categorical_orders": ([4], Categorical(3), partial(SMALL, num_orders=5)),
    "logistic": ([3], DiscretisedLogisticMixture(4, 2), SMALL),
    "conditional": ([1, 2, 2], Bernoulli(), partial(SMALL, num_classes=3)),
    "attributes": ([3], Categorical(3), partial(SMALL, num_classes=2, num_orders=2)),
    "vector": ([1], Categorical(5), SMALL),
}


def made(shape, likelihood, network=SMALL, **options):
    torch.manual_seed(0)
    model = DeepDensityEstimator(shape, likelihood, ADAM, network, **options).double()
    for weight in model.network.parameters():
        weight.data.mul_(4 if likelihood.discrete else 1.5)  # far from uniform
    return model


def build(case, **options):
    names = {"attributes": ["a", "b"]} if case == "attributes" else {}
    return made(*CASES[case], **names, **options)


def every(model):
    """All samples there are, (L^D, …)."""
    values = torch.tensor([-1.0, 1.0]) if isinstance(model.likelihood, Bernoulli) else levels(model.likelihood.levels)
    rows = list(product(values.tolist(), repeat=math.prod(model.sample_shape)))
    return torch.tensor(rows, dtype=torch.float64).unflatten(1, model.sample_shape)


def levels(of):
    return of.value(torch.arange(of.count))


def condition_of(case, rows):
    if case == "attributes":
        return torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(rows, -1)
    return torch.full((rows,), 2) if case == "conditional" else None


# -------------------------------------------------------------------- probabilities


@pytest.mark.parametrize("case", CASES)
def test_probabilities_sum_to_one(case):
    model = build(case)
    x = every(model)
    log_p = model.log_prob(x, condition_of(case, len(x)))
    assert log_p.shape == (len(x),)
    assert log_p.std() > 0.3
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("case", ["binary", "categorical", "orders", "conditional", "attributes"])
def test_samples_occur_as_often_as_is_probable(case):
    model, n = build(case), 4000
    x = every(model)
    p = model.log_prob(x, condition_of(case, len(x))).exp()
    drawn = model.sample(n, condition_of(case, n), seeds=sample_seeds(1, torch.arange(n)))
    same = (drawn[:, None] - x).abs().flatten(2).amax(2) < 1e-6
    assert (same.sum(1) == 1).all()
    counts, likely = same.sum(0).double(), n * p > 5
    # χ² of the cells with more than five expected, of mean and variance k − 1 and 2 (k − 1)
    chi = ((counts - n * p).square() / (n * p))[likely].sum()
    k = int(likely.sum()) - 1
    assert chi < k + 4 * (2 * k) ** 0.5
    assert counts[~likely].sum() < n * p[~likely].sum() + 5 * (n * p[~likely].sum()) ** 0.5 + 1


def test_conditionals_are_those_of_the_joint_probabilities():
    model = build("one_layer")  # one hidden layer: each factor of the chain against ratios of sums
    x, entries = every(model), every(model).flatten(1)
    p = model.log_prob(x).exp()
    logits = model.network(entries)[:, 0]
    for row in (5, 33, 62):
        for d in range(6):
            past = (entries[:, :d] == entries[row, :d]).all(1)
            ratio = p[past & (entries[:, d] == 1)].sum() / p[past].sum()
            torch.testing.assert_close(logits[row, d].sigmoid(), ratio)


def test_log_probabilities_are_the_sum_over_the_chain():
    model, x = build("categorical"), every(build("categorical"))[::7]
    total = torch.zeros(len(x), dtype=torch.float64)
    for d in range(4):
        blind = x.clone()
        blind[:, d:] = 0.37  # what comes later may be anything
        logits = log_softmax(model.network(blind)[:, :, d], 1)
        total += logits.gather(1, (x[:, d] + 1).round().long()[:, None])[:, 0]
    torch.testing.assert_close(model.log_prob(x), total)


# -------------------------------------------------------------------- orders


def test_evaluation_averages_probabilities_over_all_orders():
    model = build("orders")
    x = every(model)
    each = torch.stack([in_order(model, x.flatten(1), rank) for rank in model.network.ranks])
    torch.testing.assert_close(each.exp().sum(1), torch.ones(3, dtype=torch.float64))
    assert (each[0] - each[1]).abs().max() > 0.1
    torch.testing.assert_close(model.log_prob(x).exp(), each.exp().mean(0))


def in_order(model, x, rank):
    k = torch.tensor([next(k for k, r in enumerate(model.network.ranks) if torch.equal(r, rank))])
    logits = model.network(x, order=k)[:, 0]
    return torch.where(x > 0, logsigmoid(logits), logsigmoid(-logits)).sum(1).detach()


def test_a_step_of_training_takes_one_order_by_the_global_generator():
    model = build("orders")
    x = every(model)[3:4]
    each = [in_order(model, x.flatten(1), rank).item() for rank in model.network.ranks]
    torch.manual_seed(0)
    seen = [model.log_p(x, None).item() for _ in range(60)]
    for value in each:
        assert 8 <= sum(abs(value - s) < 1e-9 for s in seen) <= 34  # 20 ± 3.7, four standard deviations
    assert all(min(abs(value - s) for value in each) < 1e-9 for s in seen)


def test_one_order_needs_no_random_numbers():
    model, x = build("binary"), every(build("binary"))
    before = torch.get_rng_state()
    model.log_p(x, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_orders_of_samples_are_their_own():
    model, seeds = build("orders"), sample_seeds(0, torch.arange(30))
    whole = model.sample(30, seeds=seeds)
    apart = torch.cat([model.sample(1, seeds=seed[None]) for seed in seeds])
    assert torch.equal(apart, whole)


# -------------------------------------------------------------------- densities


def square():
    """Points of a grid, and its ticks."""
    ticks = torch.linspace(-100, 100, 401, dtype=torch.float64)
    return ticks, torch.cartesian_prod(ticks, ticks)


@pytest.mark.parametrize("likelihood", [GaussianMixture(3, -1.0), LogisticMixture(3, -1.0), Gaussian(0.5)])
@pytest.mark.parametrize("orders", [1, 2])
def test_densities_integrate_to_one(likelihood, orders):
    model = made([2], likelihood, partial(SMALL, num_orders=orders))
    ticks, grid = square()
    total = model.log_prob(grid).exp().sum() * (ticks[1] - ticks[0]) ** 2
    assert total == pytest.approx(1, abs=1e-3)


EVENTS = [  # whose borders are those of the grid's cells
    lambda x: x[:, 0] > 0.25,
    lambda x: x[:, 1] > 1.25,
    lambda x: (x[:, 0] > 0.25) == (x[:, 1] > 0.25),
]


def test_points_are_drawn_where_the_density_is():
    model = made([2], GaussianMixture(3, -1.0), partial(SMALL, num_orders=2))
    x = model.sample(4000, seeds=sample_seeds(0, torch.arange(4000)))
    ticks, grid = square()
    p = model.log_prob(grid).exp() * (ticks[1] - ticks[0]) ** 2
    for event in EVENTS:
        expected = p[event(grid)].sum().item()
        error = (expected * (1 - expected) / 4000) ** 0.5
        assert event(x).double().mean().item() == pytest.approx(expected, abs=4 * error + 1e-3)


def test_dequantised_data_have_the_probability_of_their_bins():
    model = made([1], GaussianMixture(2, -2.0), dequantisation=UniformDequantisation(4)).eval()
    model.network.out.bias.data[4:] = -2.0  # narrow
    x = torch.tensor([[-1.0], [-1 / 3], [1 / 3], [1.0]], dtype=torch.float64)
    edges = torch.linspace(-1, 1, 4 * 1000 + 1, dtype=torch.float64)
    density = model.log_p(((edges[1:] + edges[:-1]) / 2)[:, None], None).exp()
    exact = (density * (edges[1] - edges[0])).view(4, -1).sum(1).log()
    noise = Noise(sample_seeds(0, torch.arange(4 * 500)))
    estimates = model.log_likelihood(x.repeat(500, 1), None, noise, 4)
    found = estimates.view(500, 4).logsumexp(0) - math.log(500)  # of 2,000 draws each
    torch.testing.assert_close(found, exact, rtol=0, atol=0.03)
    assert (estimates.view(500, 4).mean(0) < exact).all()
    assert model.sample(50).unique().sub(x.unique()[:, None]).abs().amin(0).max() < 1e-6


def test_gradients_of_the_loss_are_those_of_differences():
    model = made([2], GaussianMixture(2), partial(SMALL, num_classes=3))
    batch = {"x": torch.randn(5, 2, dtype=torch.float64), "y": torch.tensor([0, 1, 2, 0, 1])}
    loss, _ = model.loss(batch)
    loss.backward()
    weight = model.network.layers[1].weight
    where, h = (3, 2), 1e-6
    values = []
    for shift in (h, -h):
        weight.data[where] += shift
        values.append(model.loss(batch)[0].item())
        weight.data[where] -= shift
    assert weight.grad[where].item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-4, abs=1e-8)


# -------------------------------------------------------------------- training


def test_it_learns_what_only_the_past_can_tell():
    torch.manual_seed(0)
    model = DeepDensityEstimator([3], Bernoulli(), ADAM, partial(MaskedMLP, width=16))
    first = torch.randint(2, (64, 2)) * 2.0 - 1
    x = torch.cat((first, first.prod(1, keepdim=True)), 1)  # two fair coins and their parity: 2 log 2 nats
    optimizer = ADAM(model.parameters())
    for _ in range(200):
        loss, _ = model.loss({"x": x})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() == pytest.approx(2 * math.log(2), abs=0.06)
    assert (model.sample(100).prod(1) == 1).double().mean() > 0.95


@pytest.mark.parametrize("case", ["binary", "categorical", "logistic"])
def test_half_precision_changes_little(case):
    model = build(case).float().eval()
    x = every(model).float()
    exact = model.log_p(x, None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.log_p(x, None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.03, atol=0.1)


# -------------------------------------------------------------------- what is said of it


@pytest.mark.parametrize(
    ("model", "discrete"),
    [
        (lambda: made([2], Bernoulli()), True),
        (lambda: made([2], GaussianMixture()), False),
        (lambda: made([2], GaussianMixture(), dequantisation=UniformDequantisation(4)), True),
    ],
)
def test_units_are_those_of_probabilities_where_data_are_discrete(model, discrete):
    found = model()
    assert found.discrete is discrete
    assert is_discrete(found) is discrete
    assert found.held_out_names == (("val_nats", "val_bits_per_dim") if discrete else ("val_nats",))
    assert found.exact_likelihood is (found.dequantisation is None)


def test_the_metric_of_dequantised_data_needs_its_number_of_draws():
    model = made([2], GaussianMixture(), dequantisation=UniformDequantisation(4))
    NegativeLogLikelihood(5).check(model, None)
    with pytest.raises(UserError, match="num_importance_samples"):
        NegativeLogLikelihood().check(model, None)


# -------------------------------------------------------------------- what does not go together


def digits():
    return Digits(image_size=8)


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (lambda: made([1, 8, 8], Bernoulli()), digits, ("Bernoulli", "binary")),
        (lambda: made([1, 8, 8], Categorical(16)), digits, ("Categorical", "16 levels")),
        (
            lambda: made([1, 8, 8], GaussianMixture(), dequantisation=UniformDequantisation(16)),
            digits,
            ("UniformDequantisation", "16 levels"),
        ),
        (lambda: made([1, 4, 4], Bernoulli()), lambda: Thresholded(digits()), ("sample_shape", "[1, 4, 4]")),
        (lambda: made([2], Bernoulli()), partial(Moons2D, num_samples=64), ("Bernoulli",)),
        (
            lambda: made([2], GaussianMixture(), partial(SMALL, num_classes=3)),
            partial(Moons2D, num_samples=64),
            ("num_classes",),
        ),
        (lambda: made([2], GaussianMixture(), partial(SMALL, num_classes=3)), Ring2D, ("8 classes", "3")),
    ],
    ids=["grey", "levels", "dequantised_levels", "shape", "points", "no_classes", "classes"],
)
def test_data_that_do_not_fit_are_refused(model, data, words):
    with pytest.raises(UserError) as error:
        model().check_data(data())
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(UserError, match="NaN"):
        made([2], GaussianMixture()).check_values(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(UserError, match="scale the data"):
        made([2], Gaussian()).float().check_values(torch.full((3, 2), 1e30))


def test_dequantisation_is_not_for_likelihoods_of_levels():
    with pytest.raises(UserError, match="leave dequantisation out"):
        made([2], Categorical(4), dequantisation=UniformDequantisation(4))


@pytest.mark.parametrize("shape", [[], [1, 0, 8]])
def test_shapes_without_entries_are_refused(shape):
    with pytest.raises(UserError, match="sample_shape"):
        made(shape, Bernoulli())


def test_checking_uses_evaluation_mode():
    model = made([2], GaussianMixture(), partial(SMALL, dropout=0.5))
    before = torch.get_rng_state()
    model.check_values(torch.randn(300, 2, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
