"""Densities of levels: probabilities sum to one, and are those that Bayes' rule makes of counts."""

from itertools import product

import pytest
import torch
from scipy.special import betaln, gammaln

from lightning_gen.densities import BernoulliPixels, DirichletCategorical, UniformBox, UniformLevels
from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods.levels import Levels
from lightning_gen.noise import Noise, sample_seeds

SHAPE = (1, 2, 2)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def everything(levels, shape=SHAPE):
    """All samples of a shape in model form, (L^D, …)."""
    k = torch.tensor(list(product(range(levels), repeat=4)), dtype=torch.float64)
    return Levels(levels, "test").value(k).unflatten(1, shape)


def fit(density, x, y=None):
    density.maximise(density.statistics(x, y)[1])
    return density


def data(levels, rows=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    k = torch.randint(levels, (rows, *SHAPE), generator=generator)
    return k, Levels(levels, "test").value(k.double()), torch.randint(3, (rows,), generator=generator)


@pytest.mark.parametrize(
    ("density", "levels"),
    [
        (UniformLevels(SHAPE, levels=3), 3),
        (fit(BernoulliPixels(SHAPE).double(), data(2)[1]), 2),
        (fit(DirichletCategorical(SHAPE, levels=3, concentration=0.3).double(), data(3)[1]), 3),
        (fit(DirichletCategorical(SHAPE, 3, levels=5).double(), *data(5)[1:]), 5),
    ],
)
def test_probabilities_sum_to_one(density, levels):
    x = everything(levels)
    for c in range(density.num_tables):
        y = torch.full((len(x),), c) if density.num_classes else None
        assert float(density.log_prob(x, y).exp().sum()) == pytest.approx(1, abs=1e-12)


def test_digits_of_17_levels_cost_4087_thousandths_of_a_bit():
    density = UniformLevels((1, 8, 8), levels=17)
    x = density.draw(Noise(sample_seeds(0, torch.arange(500))), None)
    bits = -density.log_prob(x, None) / (64 * torch.log(torch.tensor(2.0)))
    assert bits.tolist() == pytest.approx([4.0875] * 500, abs=1e-4)
    counts = torch.bincount(density.levels.index(x).long().flatten(), minlength=17)
    assert len(counts) == 17
    assert ((counts - 32000 / 17).abs() < 5 * (32000 / 17) ** 0.5).all()


def test_predictive_is_a_ratio_of_marginal_likelihoods():
    # p(new | data) = p(data, new) / p(data), each Dirichlet-multinomial in closed form
    levels, alpha = 4, 0.7
    k, x, _ = data(levels)
    density = fit(DirichletCategorical(SHAPE, levels=levels, concentration=alpha).double(), x)
    new = everything(levels)[37:38]
    index = density.levels.index(new).long()

    def log_evidence(rows):
        counts = torch.nn.functional.one_hot(rows.flatten(1), levels).sum(0).double()
        total = gammaln(levels * alpha) - gammaln(levels * alpha + len(rows))
        return float((total + (gammaln(alpha + counts) - gammaln(alpha)).sum(1)).sum())

    wanted = log_evidence(torch.cat((k, index))) - log_evidence(k)
    assert float(density.log_prob(new, None)) == pytest.approx(wanted, rel=1e-12)


def test_bernoulli_is_beta_binomial():
    k, x, _ = data(2)
    density = fit(BernoulliPixels(SHAPE, pseudocount=0.5).double(), x)
    ones = k.sum(0).flatten().double()
    zeros = len(k) - ones
    white = torch.ones(1, *SHAPE, dtype=torch.float64)
    wanted = (betaln(ones + 1.5, zeros + 0.5) - betaln(ones + 0.5, zeros + 0.5)).sum()
    assert float(density.log_prob(white, None)) == pytest.approx(float(wanted), rel=1e-12)


def test_naive_bayes_is_a_table_for_each_class():
    _, x, y = data(5)
    joint = fit(DirichletCategorical(SHAPE, 3, levels=5).double(), x, y)
    new = everything(5)[::31]
    for c in range(3):
        alone = fit(DirichletCategorical(SHAPE, levels=5).double(), x[y == c])
        torch.testing.assert_close(joint.log_prob(new, torch.full((len(new),), c)), alone.log_prob(new, None))


@torch.enable_grad()
def test_gradients_reach_what_counts_make():
    _, x, y = data(2)
    density = BernoulliPixels(SHAPE, 3, pseudocount=1e-9).double()
    optimizer = torch.optim.LBFGS(density.parameters(), max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        loss = -density.log_prob(x, y).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    found = density.log_prob(x, y).detach()
    torch.testing.assert_close(found, fit(density, x, y).log_prob(x, y).detach(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed_order", [slice(None), torch.arange(3999, -1, -1)])
def test_draws_have_the_probabilities_of_their_class(seed_order, monkeypatch):
    monkeypatch.setattr("lightning_gen.densities.pixels._DRAWN_AT_ONCE", 1000)
    _, x, y = data(3)
    density = fit(DirichletCategorical(SHAPE, 3, levels=3), x, y)
    y = torch.arange(4000) % 3
    seeds = sample_seeds(0, torch.arange(4000))
    drawn = density.draw(Noise(seeds[seed_order]), y[seed_order])
    for c in range(3):
        k = density.levels.index(drawn[y[seed_order] == c]).long().flatten(1)
        share = torch.nn.functional.one_hot(k, 3).float().mean(0).T
        p = density.logits[c].softmax(0)
        assert ((share - p).abs() < 5 * (p * (1 - p) / len(k)).sqrt()).all()
    alone = density.draw(Noise(seeds[seed_order][:1]), y[seed_order][:1])
    assert torch.equal(alone[0], drawn[0])


def test_rounded_levels_are_levels_and_others_are_refused():
    x = torch.randint(17, (9, *SHAPE)) * (255 / 16)
    rounded = x.round() / 127.5 - 1
    density = DirichletCategorical(SHAPE, levels=17)
    density.check(rounded)
    counts = density.statistics(rounded, None)[1][0]
    torch.testing.assert_close(counts, density.statistics(x / 127.5 - 1, None)[1][0])
    for other in (UniformLevels(SHAPE, levels=16), DirichletCategorical(SHAPE, levels=16)):
        with pytest.raises(UserError, match=r"has 16 levels .* set its levels to those of data"):
            other.check(torch.linspace(-1, 1, 17))
    with pytest.raises(UserError, match="BernoulliPixels needs binary data"):
        BernoulliPixels(SHAPE).check(rounded)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DirichletCategorical(SHAPE, concentration=0.0),
        lambda: BernoulliPixels(SHAPE, pseudocount=-1.0),
        lambda: UniformLevels(SHAPE, levels=1),
        lambda: UniformBox((2,), low=1.0, high=1.0),
    ],
)
def test_bad_numbers_are_refused(make):
    with pytest.raises(UserError):
        make()


def test_a_box_has_one_density_inside_and_none_outside():
    box = UniformBox((2,), low=-4.0, high=4.0)
    x = box.draw(Noise(sample_seeds(0, torch.arange(2000))), None)
    assert box.log_prob(x, None).tolist() == pytest.approx([-2 * 2.0794415] * 2000)
    assert x.min() < -3.99
    assert x.max() > 3.99
    torch.testing.assert_close(x.var(0), torch.full((2,), 64 / 12), rtol=0.1, atol=0)
    assert box.log_prob(torch.tensor([[4.1, 0.0]]), None).item() == -torch.inf
    box.check(x)
    with pytest.raises(UserError, match="widen"):
        box.check(torch.tensor([[4.1, 0.0]]))
