"""Likelihoods of pixels against sums over all pixels, integrals, and what they draw."""

import math
from itertools import product

import pytest
import torch
from scipy.integrate import quad
from torch.nn.functional import log_softmax

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import DiscretisedLogisticMixture
from lightning_gen.losses.pixel_likelihoods import CategoricalPixels, LogisticMixturePixels


def parameters(likelihood, channels, n=1, size=(1, 1), scale=1.5):
    torch.manual_seed(0)
    shape = n, likelihood.num_parameters(channels), likelihood.num_turns(channels), *size
    return scale * torch.randn(*shape, dtype=torch.float64)


def all_pixels(likelihood, channels):
    k = torch.tensor(list(product(range(likelihood.levels.count), repeat=channels)))
    return likelihood.levels.value(k.double())[:, :, None, None]


def probabilities(likelihood, given, channels):
    x = all_pixels(likelihood, channels)
    return likelihood(given.expand(len(x), -1, -1, -1, -1), x).exp()


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("shift", [0.0, 8.0, -8.0])
def test_a_mixture_sums_to_one_over_all_pixels(channels, shift):
    likelihood = LogisticMixturePixels(5, 3)
    given = parameters(likelihood, channels) + shift  # logits too; means far outside, scales wide and at their bound
    torch.testing.assert_close(probabilities(likelihood, given, channels).sum(), torch.ones((), dtype=torch.float64))


def density(given, x, m):
    """Equations 1 and 3, one pixel of three channels, before it is made of bins: a function of the blue channel."""
    p = given[0, :, 0, 0, 0].tolist()
    logits, rest = p[:m], p[m:]
    means, scales, coefficients = rest[: 3 * m], rest[3 * m : 6 * m], rest[6 * m :]
    weights = torch.tensor(logits).softmax(0).tolist()

    def cdf(z):
        return 1 / (1 + math.exp(-z))

    def of(blue):
        total = 0.0
        for k in range(m):
            a, b, c = (math.tanh(v) for v in coefficients[3 * k : 3 * k + 3])
            mu = means[3 * k : 3 * k + 3]
            mu = [mu[0], mu[1] + a * x[0], mu[2] + b * x[0] + c * x[1]]
            s = [math.exp(-7 + math.log1p(math.exp(v + 7))) for v in scales[3 * k : 3 * k + 3]]
            term = weights[k]
            for channel in (0, 1):  # bins of width ½ around −1, −½, 0, ½, 1, the outer ones open
                low = -math.inf if x[channel] == -1 else x[channel] - 0.25
                high = math.inf if x[channel] == 1 else x[channel] + 0.25
                upper = 1.0 if high == math.inf else cdf((high - mu[channel]) / s[channel])
                term *= upper - (0.0 if low == -math.inf else cdf((low - mu[channel]) / s[channel]))
            z = cdf((blue - mu[2]) / s[2])
            total += term * z * (1 - z) / s[2]
        return total

    return of


@pytest.mark.parametrize("x", [(0.0, 0.5, -0.5), (-1.0, 1.0, 0.0), (0.5, -0.5, 1.0), (1.0, 0.0, -1.0)])
def test_a_pixel_of_the_mixture_is_the_integral_over_its_bin(x):
    likelihood = LogisticMixturePixels(5, 2)
    given = parameters(likelihood, 3, scale=0.7)
    low, high = -60.0 if x[2] == -1 else x[2] - 0.25, 60.0 if x[2] == 1 else x[2] + 0.25
    expected, _ = quad(density(given, x, 2), low, high, limit=400, points=[-2.0, 0.0, 2.0] if high - low > 2 else None)
    found = likelihood(given, torch.tensor(x, dtype=torch.float64).view(1, 3, 1, 1)).exp()
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_one_channel_is_the_mixture_of_single_entries():
    likelihood, plain = LogisticMixturePixels(17, 4), DiscretisedLogisticMixture(17, 4)
    given = parameters(likelihood, 1, 3, (4, 5))
    x = likelihood.levels.value(torch.randint(17, (3, 1, 4, 5)).double())
    torch.testing.assert_close(likelihood(given, x), plain(given[:, :, 0].unsqueeze(2), x))


def test_coefficients_tell_later_channels_of_earlier_ones_alone():
    likelihood = LogisticMixturePixels(9, 1)
    given = parameters(likelihood, 3)[0, :, 0, 0, 0]
    given[1:4] = 0  # means
    given[7:] = torch.tensor([10.0, -10.0, 0.0])  # tanh: green follows red, blue goes against it
    mixture = likelihood._mixture(given[None], 3)
    x = torch.tensor([[0.3, 0.8, -0.4]], dtype=torch.float64)
    found = torch.stack([mixture.mean(c, x)[0, 0] for c in range(3)])
    torch.testing.assert_close(found, torch.tensor([0.0, 0.3, -0.3], dtype=torch.float64))


@pytest.mark.parametrize("likelihood", [LogisticMixturePixels(3, 2), CategoricalPixels(27)])
def test_draws_have_their_probabilities(likelihood):
    channels, n = (3, 20_000) if likelihood.num_turns(3) == 1 else (1, 20_000)
    given = parameters(likelihood, channels, scale=0.8)
    torch.manual_seed(1)
    uniform = torch.rand(n, likelihood.num_uniforms(channels))
    x = likelihood.draw(given[:, :, 0, 0, 0].expand(n, -1), uniform)
    assert x.shape == (n, channels)
    count = likelihood.levels.count
    place = (likelihood.levels.index(x).long() * count ** torch.arange(channels).flip(0)).sum(1)
    p = probabilities(likelihood, given, channels)
    counts = torch.bincount(place, minlength=len(p))
    error = (p * (1 - p) / n).sqrt()
    assert ((counts / n - p).abs() < 5 * error + 1e-9).all()


@pytest.mark.parametrize("likelihood", [LogisticMixturePixels(9, 3), CategoricalPixels(9)])
def test_temperatures(likelihood):
    given = parameters(likelihood, 1)[:, :, 0, 0, 0].expand(2000, -1)
    torch.manual_seed(1)
    uniform = torch.rand(2000, likelihood.num_uniforms(1))
    cold = likelihood.draw(given, uniform, 1e-4)
    assert len(cold.unique()) == 1
    spread = [likelihood.draw(given, uniform, t).var() for t in (0.3, 1.0)]
    assert spread[0] < spread[1]


def test_categorical_pixels_are_softmaxes_of_levels():
    likelihood = CategoricalPixels(4)
    given = parameters(likelihood, 3, 2, (2, 2))
    k = torch.randint(4, (2, 3, 2, 2))
    p = log_softmax(given, 1)
    expected = torch.zeros(2, dtype=torch.float64)
    for n, c, i, j in product(range(2), range(3), range(2), range(2)):
        expected[n] += p[n, k[n, c, i, j], c, i, j]
    torch.testing.assert_close(likelihood(given, likelihood.levels.value(k.double())), expected)


def test_half_precision_is_not_used():
    likelihood = LogisticMixturePixels(256, 2)
    given = parameters(likelihood, 3, 2, (2, 2)).bfloat16()
    x = likelihood.levels.value(torch.randint(256, (2, 3, 2, 2)).float())
    assert likelihood(given, x).dtype == torch.float32
    torch.testing.assert_close(likelihood(given, x), likelihood(given.double(), x.double()).float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("cls", [CategoricalPixels, LogisticMixturePixels])
def test_other_levels_are_refused(cls):
    x = torch.tensor([0, 16, 32, 255]).float().view(1, 1, 2, 2) / 127.5 - 1  # sixteenths, as bytes
    cls(17).check(x)
    exact = cls(17).quantise(x)
    assert torch.equal(exact.flatten(), torch.tensor([-1.0, -0.875, -0.75, 1.0]))
    with pytest.raises(UserError, match=f"{cls.__name__} has 16 levels"):
        cls(16).check(x)
    with pytest.raises(UserError, match="levels is 1"):
        cls(1)


def test_a_mixture_has_components():
    with pytest.raises(UserError, match="num_components is 0"):
        LogisticMixturePixels(17, 0)
