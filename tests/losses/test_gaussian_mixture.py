"""Mixtures of densities: against torch's mixtures and scipy."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as td

from lightning_gen.errors import UserError
from lightning_gen.losses.likelihoods import GaussianMixture, LearnedGaussian, LogisticMixture
from lightning_gen.noise import Noise, sample_seeds

MINIMUM, SPREAD = -1.5, 2.0
FAMILIES = {"gaussian": (GaussianMixture, stats.norm), "logistic": (LogisticMixture, stats.logistic)}


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def noise(n):
    return Noise(sample_seeds(0, torch.arange(n)))


def parts(parameters, components):
    """Weights, means and scales, (…, M) each, by the definitions."""
    raw = parameters.movedim(1, -1).unflatten(-1, (3, components)).numpy()
    weights = np.exp(raw[..., 0, :]) / np.exp(raw[..., 0, :]).sum(-1, keepdims=True)
    centres = np.linspace(-SPREAD, SPREAD, components) if components > 1 else np.zeros(1)
    scales = np.exp(MINIMUM) * (1 + np.exp(raw[..., 2, :] - MINIMUM))
    return weights, raw[..., 1, :] + centres, scales


def made(components, *shape):
    return torch.randn(shape[0], 3 * components, *shape[1:], dtype=torch.float64, generator=torch.Generator())


@pytest.mark.parametrize("components", [1, 4])
def test_log_densities_are_those_of_scipy(family, components):
    cls, reference = family
    parameters, x = made(components, 5, 2, 3), 2 * torch.randn(5, 2, 3, dtype=torch.float64)
    weights, means, scales = parts(parameters, components)
    density = (weights * reference.pdf(x.numpy()[..., None], means, scales)).sum(-1)
    found = cls(components, MINIMUM, SPREAD)(parameters, x)
    assert found.shape == (5,)
    np.testing.assert_allclose(found.numpy(), np.log(density).sum((1, 2)), rtol=1e-6)


def test_gaussian_mixtures_are_those_of_torch():
    parameters, x = made(4, 6, 3), torch.randn(6, 3, dtype=torch.float64)
    weights, means, scales = (torch.from_numpy(part) for part in parts(parameters, 4))
    reference = td.MixtureSameFamily(td.Categorical(weights), td.Normal(means, scales))
    likelihood = GaussianMixture(4, MINIMUM, SPREAD)
    torch.testing.assert_close(likelihood(parameters, x), reference.log_prob(x).sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(likelihood.mean(parameters), reference.mean, rtol=1e-6, atol=1e-6)


def test_one_gaussian_is_a_learnt_gaussian():
    parameters, x = made(1, 4, 3), torch.randn(4, 3, dtype=torch.float64)
    expected = LearnedGaussian(-7.0)(parameters[:, 1:], x)
    torch.testing.assert_close(GaussianMixture(1, -7.0, 5.0)(parameters, x), expected)


def test_draws_have_the_distribution(family):
    cls, reference = family
    likelihood, parameters = cls(3, MINIMUM, SPREAD), made(3, 1, 2)
    weights, means, scales = parts(parameters, 3)
    x = likelihood.draw(parameters.expand(20_000, -1, -1), noise(20_000)).numpy()
    u = (weights * reference.cdf(x[..., None], means, scales)).sum(-1)
    for entry in u.T:
        assert stats.kstest(entry, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.03


def test_components_differ_at_the_start_and_all_learn(family):
    likelihood = family[0](5)
    parameters, x = torch.zeros(64, 15, 1, requires_grad=True), torch.linspace(-1, 1, 64)[:, None]
    likelihood(parameters, x).sum().backward()
    means = parameters.grad[:, 5:10].sum((0, 2))
    assert len(means.unique()) == 5
    assert torch.equal(likelihood.components(parameters)[1][0, :, 0], torch.linspace(-1, 1, 5))


def test_far_values_have_finite_log_densities_and_gradients(family):
    likelihood = family[0](2)
    parameters = torch.zeros(3, 6, 1, requires_grad=True)
    found = likelihood(parameters, torch.tensor([[-1e4], [0.0], [1e4]]))
    found.sum().backward()
    assert found.isfinite().all()
    assert parameters.grad.isfinite().all()


def test_images_are_clamped_when_they_are_shown_and_vectors_are_not(family):
    likelihood = family[0](1)
    image = torch.tensor([0.0, 7.0, 0.0]).view(1, 3, 1, 1, 1)
    assert likelihood.mean(image).item() == 1
    assert likelihood.expectation(image).item() == 7
    assert likelihood.draw(image, noise(1)).item() == 1
    assert likelihood.mean(image.flatten(2)).item() == 7


def test_half_precision_outputs_are_computed_with_in_full(family):
    likelihood = family[0](3)
    parameters, x = made(3, 4, 2).bfloat16(), torch.randn(4, 2)
    found = likelihood(parameters, x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, likelihood(parameters.double(), x.double()).float())


@pytest.mark.parametrize(
    ("options", "words"),
    [({"num_components": 0}, ("num_components is 0", "at least 1")), ({"spread": -1.0}, ("spread is -1.0",))],
)
def test_arguments_out_of_range_are_refused(family, options, words):
    with pytest.raises(UserError) as error:
        family[0](**options)
    for word in (family[0].__name__, *words):
        assert word in str(error.value)


def test_data_must_be_finite(family):
    with pytest.raises(UserError, match="NaN"):
        family[0]().check(torch.tensor([[0.0, float("nan")]]))
    family[0]().check(torch.tensor([[0.0, 1e3]]))
