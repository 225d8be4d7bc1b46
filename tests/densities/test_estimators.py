"""Sums and gradients: what each estimator does to a density, without a trainer."""

from functools import partial

import pytest
import torch

from lightning_gen.densities import (
    Density,
    DirichletCategorical,
    ExpectationMaximisation,
    GradientDescent,
    NormalDensity,
    NormalMixtureDensity,
    UniformBox,
    UniformLevels,
)
from lightning_gen.errors import UserError

SGD = partial(torch.optim.SGD, lr=0.1)


class Slope(Density):
    """Neither closed form nor anything else."""

    def log_prob(self, x, y):
        return x.flatten(1).sum(1)

    def draw(self, noise, y):
        return noise.uniform(*self.sample_shape)

    def check(self, x):
        pass


def test_sums_of_parts_are_those_of_all():
    torch.manual_seed(0)
    x, y = torch.randn(50, 3), torch.randint(2, (50,))
    start = NormalMixtureDensity((3,), 2, num_components=2)
    start.start(x, y, torch.Generator().manual_seed(0))
    found = []
    for sizes in ([50], [7, 0, 43], [1] * 50):
        density, estimator = NormalMixtureDensity((3,), 2, num_components=2), ExpectationMaximisation()
        density.load_state_dict(start.state_dict())
        estimator.prepare(density)
        for _ in range(5):
            for part, classes in zip(x.split(sizes), y.split(sizes), strict=True):
                loss = estimator.loss(density, part, torch.zeros(len(part)), classes)
                assert not loss.requires_grad
            estimator.end_epoch(density)
        assert float(estimator.epochs.detach()) == 5
        assert not estimator.sums.any()
        found.append(density.log_prob(x, y).detach())
    assert not torch.allclose(found[0], start.log_prob(x, y).detach())
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[2], found[0], rtol=1e-5, atol=1e-5)


def test_draws_of_a_sample_count_as_one():
    torch.manual_seed(0)
    x = torch.randn(2, 20, 3)
    once, twice = ExpectationMaximisation(), ExpectationMaximisation(num_draws=2)
    densities = NormalDensity((3,), prior_count=2.0), NormalDensity((3,), prior_count=1.0)
    for estimator, density, rows in ((twice, densities[1], x), (once, densities[0], x.flatten(0, 1)[None])):
        estimator.prepare(density)
        for part in rows:
            estimator.loss(density, part, torch.zeros(len(part)), None)
        estimator.end_epoch(density)
    # 40 samples and a prior of two are 20 samples and a prior of one
    torch.testing.assert_close(densities[0].log_prob(x[0], None), densities[1].log_prob(x[0], None))


def test_the_loss_is_the_bound():
    density, x, log_q = UniformLevels((2,), levels=4), torch.ones(3, 2), torch.tensor([1.0, 2.0, 3.0])
    estimator = ExpectationMaximisation()
    estimator.prepare(density)
    assert float(estimator.loss(density, x, log_q, None)) == pytest.approx(2 + 2 * 1.3862944)


@pytest.mark.parametrize("density", [UniformLevels((2,)), UniformBox((2,)), DirichletCategorical((2,))])
def test_gradients_are_refused_where_there_is_nothing_to_learn_by_them(density):
    with pytest.raises(UserError, match="cannot be estimated by gradients"):
        GradientDescent(SGD).prepare(density)


def test_densities_without_sums_are_left_to_gradients():
    with pytest.raises(UserError, match="use GradientDescent"):
        ExpectationMaximisation().prepare(Slope((2,)))
    GradientDescent(SGD).prepare(Slope((2,)))


@pytest.mark.parametrize("make", [lambda: ExpectationMaximisation(0), lambda: GradientDescent(SGD, num_draws=0)])
def test_bad_numbers_are_refused(make):
    with pytest.raises(UserError, match="num_draws"):
        make()


def test_sums_keep_their_digits_when_weights_change_type():
    estimator = ExpectationMaximisation()
    estimator.prepare(NormalDensity((3,)))
    estimator.to("cpu")
    assert estimator.sums.dtype == torch.float64
