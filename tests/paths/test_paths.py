"""Paths from noise to samples against their derivatives, their ends and the closed form of Gaussian data."""

import pytest
import torch

from lightning_gen.errors import UserError
from lightning_gen.paths import ConditionalOptimalTransport, VariancePreserving, VariancePreservingDiffusion

PATHS = {
    "straight": ConditionalOptimalTransport(),
    "sigma_min": ConditionalOptimalTransport(0.1),
    "variance_preserving": VariancePreserving(),
    "diffusion": VariancePreservingDiffusion(),
}


@pytest.fixture(params=PATHS)
def path(request):
    return PATHS[request.param]


def pairs(n, *shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, *shape, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2)])
def test_the_velocity_is_the_derivative_of_the_place(path, shape):
    noise, x = pairs(7, *shape)
    t = torch.linspace(0.02, 0.98, 7, dtype=torch.float64, requires_grad=True)
    place, velocity = path(noise, x, t)
    assert place.shape == velocity.shape == x.shape
    for index in torch.cartesian_prod(*[torch.arange(size) for size in shape]).view(-1, len(shape)):
        entry = (slice(None), *index.tolist())
        (slope,) = torch.autograd.grad(place[entry].sum(), t, retain_graph=True)
        torch.testing.assert_close(velocity[entry], slope)


def test_it_goes_from_noise_to_samples(path):
    noise, x = pairs(5, 3)
    start, _ = path(noise, x, torch.zeros(5, dtype=torch.float64))
    end, _ = path(noise, x, torch.full((5,), path.end, dtype=torch.float64))
    left, around = (0.01, 0.01) if isinstance(path, VariancePreservingDiffusion) else (1e-12, 1e-12)
    around = 0.1 if path is PATHS["sigma_min"] else around
    torch.testing.assert_close(start, noise, rtol=0, atol=4 * left)
    torch.testing.assert_close(end, x, rtol=0, atol=4 * around)


def test_sigma_min_is_what_is_left_of_noise():
    _, sigma = PATHS["sigma_min"].scales(torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(sigma, torch.tensor([1.0, 0.1]))


@pytest.mark.parametrize("name", ["variance_preserving", "diffusion"])
def test_data_of_unit_variance_keep_it(name):
    alpha, sigma = PATHS[name].scales(torch.linspace(0, PATHS[name].end, 9, dtype=torch.float64))
    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones(9, dtype=torch.float64))


def test_the_diffusion_path_ends_in_noise_of_its_beta():
    # d log α / dt is half of β, which goes from β_max at t = 0 to β_min at t = 1
    path, t = VariancePreservingDiffusion(0.2, 15.0), torch.tensor([0.0, 1 - 1e-9], dtype=torch.float64)
    beta = 2 * path.rates(t)[0] / path.scales(t)[0]
    torch.testing.assert_close(beta, torch.tensor([15.0, 0.2], dtype=torch.float64), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", PATHS)
def test_squared_errors_are_least_at_the_mean_velocity(name):
    # data of two points: E[velocity | x_t] by Bayes' rule, and by regression on many draws near one x_t
    path, points = PATHS[name], torch.tensor([-1.0, 2.0], dtype=torch.float64)
    generator, n, time, place = torch.Generator().manual_seed(1), 400_000, 0.6, 0.5
    noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x = points[torch.randint(2, (n, 1), generator=generator)]
    t = torch.full((n,), time, dtype=torch.float64)
    x_t, velocity = path(noise, x, t)
    near = (x_t[:, 0] - place).abs() < 0.02
    alpha, sigma = (scale.item() for scale in path.scales(torch.tensor(time, dtype=torch.float64)))
    weights = torch.softmax(-((place - alpha * points) / sigma).square() / 2, 0)
    alpha_rate, sigma_rate = (rate.item() for rate in path.rates(torch.tensor(time, dtype=torch.float64)))
    expected = weights @ (alpha_rate * points + sigma_rate * (place - alpha * points) / sigma)
    found = velocity[near, 0]
    assert abs(found.mean() - expected) < 5 * found.std() / near.sum() ** 0.5 + 0.01


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConditionalOptimalTransport(1.0), "sigma_min is 1.0"),
        (lambda: VariancePreservingDiffusion(0.0), "beta_min is 0.0"),
        (lambda: VariancePreservingDiffusion(1.0, 0.5), "beta_max is 0.5"),
        (lambda: VariancePreservingDiffusion(margin=0.0), "margin is 0.0"),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
