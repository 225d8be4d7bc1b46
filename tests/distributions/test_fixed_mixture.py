"""Mixtures that are given: densities against torch's own, draws against both, and a component a class."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from lightning_gen.distributions import FixedMixture, RingMixture, draw
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds

MEANS = [[0.0, 3.0], [-2.0, 0.5], [4.0, -1.0]]


def streams(n, start=0):
    return Noise(sample_seeds(0, torch.arange(start, start + n)))


def reference(means, covariance):
    return MixtureSameFamily(Categorical(torch.ones(len(means))), MultivariateNormal(means, covariance))


def test_log_densities_are_those_of_torch():
    z = torch.randn(50, 2, dtype=torch.float64) * 3
    found = FixedMixture(2, means=MEANS, scale=0.7).double()().log_prob(z)
    means = torch.tensor(MEANS, dtype=torch.float64)
    torch.testing.assert_close(found, reference(means, 0.49 * torch.eye(2, dtype=torch.float64)).log_prob(z))


def test_a_ring_is_in_the_plane_of_the_first_two():
    ring = RingMixture(4, num_components=6, radius=2.0, scale=0.3).double()
    angles = torch.arange(6, dtype=torch.float64) * math.pi / 3
    means = torch.stack((2 * angles.cos(), 2 * angles.sin(), 0 * angles, 0 * angles), 1)
    covariance = torch.diag(torch.tensor([0.09, 0.09, 1.0, 1.0], dtype=torch.float64))
    z = torch.randn(50, 4, dtype=torch.float64) * 2
    torch.testing.assert_close(ring().log_prob(z), reference(means, covariance).log_prob(z), rtol=1e-5, atol=1e-5)
    assert not list(ring.parameters())
    assert not ring.state_dict()


@pytest.mark.parametrize("by_seed", [True, False])
def test_draws_are_of_the_mixture(by_seed):
    torch.manual_seed(0)
    p, n = FixedMixture(2, means=MEANS, scale=0.2)(), 6000
    z = draw(p, streams(n), 1)[0] if by_seed else p.sample((n,))
    distances = torch.cdist(z, torch.tensor(MEANS))
    nearest = distances.argmin(1)
    share = torch.bincount(nearest, minlength=3) / n
    assert ((share - 1 / 3).abs() < 4.5 * (2 / 9 / n) ** 0.5).all()
    residual = (z - torch.tensor(MEANS)[nearest]) / 0.2
    statistic = (residual[:, 0].sort().values - Normal(0, 1).icdf((torch.arange(n) + 0.5) / n)).abs().mean()
    assert statistic < 0.05
    assert residual.mean(0).abs().max() < 4.5 / n**0.5


def test_a_draw_depends_on_its_own_stream_alone():
    ring = RingMixture(3)
    whole = draw(ring(), streams(5), 2)
    parts = [draw(ring(), streams(n, start), 2) for start, n in ((0, 1), (1, 3), (4, 1))]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_a_class_has_its_component():
    ring, k = RingMixture(3, num_components=4, scale=0.1), torch.tensor([2, 0, 3])
    p = ring.components(k)
    assert p.batch_shape == (3,)
    torch.testing.assert_close(p.mean, ring.means[k])
    torch.testing.assert_close(p.stddev, torch.tensor([0.1, 0.1, 1.0]).expand(3, 3))
    z = torch.randn(3, 3)
    every = torch.stack([ring.components(torch.full((3,), c)).log_prob(z) for c in range(4)])
    torch.testing.assert_close(ring().log_prob(z), every.logsumexp(0) - math.log(4))


def test_ways_between_stay_on_the_ring():
    ring = RingMixture(2, num_components=4, radius=3.0)
    a, b = ring.means[:1], ring.means[1:2]
    torch.testing.assert_close(ring.between(a, b, torch.tensor([0.5])).norm(), torch.tensor(3.0))
    straight = FixedMixture(2, means=MEANS).between(a, b, torch.tensor([0.5]))
    torch.testing.assert_close(straight, (a + b) / 2)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: FixedMixture(2, means=[]), "FixedMixture.means is empty"),
        (lambda: FixedMixture(3, means=MEANS), "FixedMixture.means has 2 numbers in one of them: give latent_dim, 3"),
        (lambda: FixedMixture(2, means=MEANS, scale=0.0), "FixedMixture.scale is 0"),
        (lambda: FixedMixture(2, 5, means=MEANS), "FixedMixture does not depend on features"),
        (lambda: RingMixture(1), "RingMixture needs at least 2"),
        (lambda: RingMixture(2, num_components=0), "RingMixture.num_components is 0"),
        (lambda: RingMixture(2, radius=-1.0), "RingMixture.radius is -1"),
        (lambda: RingMixture(2, scale=0.0), "RingMixture.scale is 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(build, words):
    with pytest.raises(UserError, match=words):
        build()
