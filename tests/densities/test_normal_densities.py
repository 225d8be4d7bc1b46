"""Normal densities and mixtures: against scipy, scikit-learn, torch.distributions and another way of computing."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from lightning_gen.densities import (
    DiagonalCovariance,
    FactorAnalysis,
    FullCovariance,
    KMeansStart,
    LowRankCovariance,
    NormalDensity,
    NormalMixtureDensity,
    ProbabilisticPCA,
    RandomStart,
)
from lightning_gen.densities.base import check_finite
from lightning_gen.errors import UserError
from lightning_gen.noise import Noise, sample_seeds

COVARIANCES = {
    "full": FullCovariance,
    "diagonal": DiagonalCovariance,
    "pca": partial(ProbabilisticPCA, rank=2),
    "factors": partial(FactorAnalysis, rank=2),
}
DIM = 5


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def data(rows=200, seed=0, dim=DIM):
    generator = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(3, dim, generator=generator, dtype=torch.float64)
    mixing = torch.randn(3, dim, dim, generator=generator, dtype=torch.float64) / dim**0.5
    which = torch.randint(3, (rows,), generator=generator)
    z = torch.randn(rows, dim, 1, generator=generator, dtype=torch.float64)
    return means[which] + (mixing[which] @ z).squeeze(2), which


def mixture(kind, x, seed=0, y=None, **options):
    torch.manual_seed(seed)
    options = {"num_components": 4, "covariance": COVARIANCES[kind]} | options
    classes = None if y is None else int(y.max()) + 1
    density = NormalMixtureDensity(x.shape[1:], classes, **options).double()
    density.start(x, y, torch.Generator().manual_seed(seed))
    return density


def step(density, x, y=None):
    log_p, sums = density.statistics(x, y)
    density.maximise(sums)
    return log_p


def covariances(density):
    """(M, D, D), by what each kind says it is."""
    part = density.covariance
    if isinstance(part, FullCovariance):
        return part.cholesky @ part.cholesky.mT
    if isinstance(part, DiagonalCovariance):
        return torch.diag_embed((2 * part.log_scale).exp())
    return part.loadings @ part.loadings.mT + torch.diag_embed(part.noise_variance)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_log_prob_is_that_of_scipy(kind):
    x, _ = data()
    density = mixture(kind, x)
    pi, sigma = density.log_weights()[0].exp(), covariances(density)
    found = density.log_prob(x, None)
    parts = [multivariate_normal(m, s).pdf(x.numpy()) for m, s in zip(density.means, sigma, strict=True)]
    wanted = np.log(sum(p * float(w) for p, w in zip(parts, pi, strict=True)))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("kind", "name"), [("full", "full"), ("diagonal", "diag")])
def test_a_step_is_that_of_scikit_learn(kind, name):
    x, _ = data()
    density = mixture(kind, x, prior_count=0.0)
    precision = torch.linalg.inv(covariances(density))
    weights = density.log_weights()[0].exp()
    other = GaussianMixture(4, covariance_type=name, reg_covar=0.0, max_iter=1, tol=1e30)
    other.weights_init, other.means_init = weights.numpy(), density.means.numpy().copy()
    other.precisions_init = (precision if kind == "full" else precision.diagonal(dim1=1, dim2=2)).numpy()
    other.fit(x.numpy())
    before = step(density, x)
    assert float(before.mean()) == pytest.approx(other.lower_bound_, abs=1e-9)
    found = covariances(density)
    found = found if kind == "full" else found.diagonal(dim1=1, dim2=2)
    np.testing.assert_allclose(density.log_weights()[0].exp(), other.weights_, atol=1e-6)
    np.testing.assert_allclose(density.means, other.means_, atol=1e-6)
    np.testing.assert_allclose(found, other.covariances_, atol=1e-6)


def penalty(density, x):
    """The logarithm of the prior, as the documentation has it, up to a constant."""
    variance = x.var(0, unbiased=False) * density.num_components ** (-2 / x.shape[1])
    part = density.covariance
    low = isinstance(part, LowRankCovariance)
    sigma = torch.diag_embed(part.noise_variance) if low else covariances(density)
    wishart = sigma.logdet() + (torch.linalg.inv(sigma).diagonal(dim1=1, dim2=2) * variance).sum(1)
    dirichlet = density.log_weights().sum() / density.num_components
    return density.prior_count * float(dirichlet - wishart.sum() / 2)


@pytest.mark.parametrize("prior_count", [0.0, 3.0])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_steps_never_make_the_training_set_less_likely(kind, prior_count):
    x, _ = data(120)
    density = mixture(kind, x, prior_count=prior_count, start=RandomStart())
    scores = []
    for _ in range(25):
        score = penalty(density, x)
        scores.append(score + float(step(density, x).sum()))
    changes = np.diff(scores)
    assert changes.min() > -1e-8
    assert changes.max() > 1  # there was something to gain


@pytest.mark.parametrize("kind", ["pca", "factors"])
def test_steps_of_low_rank_find_the_best_there_is(kind):
    # one normal distribution: Tipping and Bishop's solution by eigenvectors, and scikit-learn's for factors
    from sklearn.decomposition import PCA
    from sklearn.decomposition import FactorAnalysis as Factors

    x, which = data(300, dim=4)
    x = x[which == 0]
    density = NormalDensity((4,), covariance=COVARIANCES[kind], prior_count=0.0).double()
    density.start(x, None, torch.Generator().manual_seed(0))
    for _ in range(400):
        step(density, x)
    found = float(density.log_prob(x, None).mean())
    if kind == "factors":
        wanted = Factors(2, tol=1e-10, max_iter=20000).fit(x.numpy()).score(x.numpy())
        assert found > wanted - 1e-3
        return
    values = PCA().fit(x.numpy()).explained_variance_ * (len(x) - 1) / len(x)
    noise = values[2:].mean()
    wanted = -0.5 * (4 * np.log(2 * np.pi) + np.log(values[:2]).sum() + 2 * np.log(noise) + 4)
    assert found == pytest.approx(wanted, abs=1e-4)


def test_one_normal_density_is_the_shrunk_covariance():
    x, _ = data()
    density = NormalDensity((DIM,), prior_count=7.0).double()
    step(density, x)
    s = np.cov(x.numpy().T, bias=True)
    wanted = (len(x) * s + 7 * np.diag(np.diag(s))) / (len(x) + 7)
    np.testing.assert_allclose(covariances(density)[0], wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(density.means[0], x.mean(0), rtol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_classes_have_mixtures_of_their_own(kind):
    x, y = data()
    options = {"num_components": 2, "prior_count": 0.0, "start": KMeansStart(3)}
    joint = mixture(kind, x, y=y, **options)
    for _ in range(3):
        step(joint, x, y)
    # the same memberships to begin with, class by class
    for c in range(3):
        rows = y == c
        alone = NormalMixtureDensity((DIM,), covariance=COVARIANCES[kind], **options).double()
        for (name, own), (_, whole) in zip(alone.named_parameters(), joint.named_parameters(), strict=True):
            own.copy_(whole[c : c + 1] if name == "logits" else whole[2 * c : 2 * c + 2])
        for _ in range(2):
            step(alone, x[rows])
            step(joint, x, y)
        torch.testing.assert_close(joint.log_prob(x[rows], y[rows]), alone.log_prob(x[rows], None))


@pytest.mark.parametrize("kind", COVARIANCES)
@torch.enable_grad()
def test_gradients_are_those_of_torch_distributions(kind):
    x, _ = data(20)
    density = mixture(kind, x)
    density.log_prob(x, None).mean().backward()
    found = [p.grad.clone() for p in density.parameters()]
    density.zero_grad()
    normals = torch.distributions.MultivariateNormal(density.means, covariances(density))
    weights = torch.distributions.Categorical(logits=density.logits[0])
    torch.distributions.MixtureSameFamily(weights, normals).log_prob(x).mean().backward()
    for own, other in zip(found, density.parameters(), strict=True):
        torch.testing.assert_close(own, other.grad)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_draws_have_the_moments(kind):
    x, y = data()
    density = mixture(kind, x, y=y, num_components=2)
    n = 20000
    wanted = torch.full((n,), 1)
    drawn = density.draw(Noise(sample_seeds(1, torch.arange(n))), wanted)
    pi, means, sigma = density.log_weights()[1].exp(), density.means[2:4], covariances(density)[2:4]
    mean = pi @ means
    covariance = torch.einsum("k,kij->ij", pi, sigma + means.unsqueeze(2) * means.unsqueeze(1)) - torch.outer(
        mean, mean
    )
    error = (covariance.diagonal() / n).sqrt()
    assert ((drawn.mean(0) - mean).abs() < 5 * error).all()
    scale = torch.outer(covariance.diagonal(), covariance.diagonal()).sqrt()
    assert ((drawn.T.cov() - covariance).abs() < 0.06 * scale).all()


@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_draw_depends_on_its_stream_alone(kind):
    x, _ = data()
    density, seeds = mixture(kind, x).float(), sample_seeds(0, torch.arange(50))
    whole = density.draw(Noise(seeds), None)
    parts = torch.cat([density.draw(Noise(part), None) for part in seeds.split([1, 7, 42])])
    assert whole.dtype == torch.float32
    assert torch.equal(whole, parts)


@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("prior_count", [0.0, 2.0])
def test_components_without_samples_stay_finite(kind, prior_count):
    x, _ = data(60)
    density = mixture(kind, x, prior_count=prior_count)
    density.means[0] = 1e4  # nobody belongs to it
    for _ in range(3):
        step(density, x)
    assert all(p.isfinite().all() for p in density.parameters())
    assert density.log_prob(x, None).isfinite().all()
    share = float(density.log_weights()[0, 0].exp())
    assert share == pytest.approx(prior_count / 4 / (60 + prior_count), abs=1e-12)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_entries_that_are_constant_have_a_variance(kind):
    x, _ = data(60)
    x[:, 2] = 1.0
    density = mixture(kind, x)
    for _ in range(5):
        step(density, x)
    assert density.log_prob(x, None).isfinite().all()


@pytest.mark.parametrize("kind", COVARIANCES)
def test_no_samples_have_no_statistics(kind):
    x, _ = data(60)
    log_p, sums = mixture(kind, x).statistics(x[:0], None)
    assert log_p.shape == (0,)
    assert all(part.abs().sum() == 0 for part in sums)


@pytest.mark.parametrize("start", [KMeansStart(), RandomStart()])
def test_starts_are_functions_of_the_generator(start):
    x, _ = data()
    shares = [start.weights(x, 4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(shares[0], shares[1])
    assert not torch.equal(shares[0], shares[2])
    torch.testing.assert_close(shares[0].sum(1), torch.ones(len(x), dtype=torch.float64))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NormalMixtureDensity((2,), num_components=0), "num_components"),
        (lambda: NormalDensity((2,), prior_count=-1.0), "prior_count"),
        (lambda: NormalDensity((2,), min_variance=0.0), "min_variance"),
        (lambda: NormalDensity((2,), covariance=partial(ProbabilisticPCA, rank=2)), "rank is 2"),
        (lambda: KMeansStart(iterations=-1), "iterations"),
        (lambda: RandomStart(0), "num_rows"),
        (lambda: check_finite(NormalDensity((2,)), torch.tensor([torch.nan])), "finite"),
    ],
)
def test_bad_numbers_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()
