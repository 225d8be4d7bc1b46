"""β-TC: its three parts against a direct computation, and how a batch stands for all samples."""

from itertools import permutations

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian
from scipy.special import logsumexp
from scipy.stats import norm
from torch.distributions import MultivariateNormal

from lightning_gen.errors import UserError
from lightning_gen.losses.bounds import BetaTC, Inference, MonteCarlo, StratifiedSampling, WeightedSampling


@pytest.fixture
def model():
    return LinearGaussian()


def direct_total_correlation(z, mean, scale, weights):
    """Mutual information, total correlation and divergence of marginals from scalars, one at a time."""
    samples, size, dim = z.shape
    parts = np.zeros(3)
    for s in range(samples):
        for i in range(size):
            each = np.array([norm.logpdf(z[s, i], mean[k], scale[k]) for k in range(size)])
            log_q = logsumexp(each.sum(1) + np.log(weights[i]))
            marginals = sum(logsumexp(each[:, j] + np.log(weights[i])) for j in range(dim))
            log_p = norm.logpdf(z[s, i]).sum()
            parts += np.array([each[i].sum() - log_q, log_q - marginals, marginals - log_p]) / (samples * size)
    return parts


def stratified(size, num_train):
    w = np.full((size, size), 1 / (size - 1))
    for i in range(size):
        w[i, i] = 1 / num_train
        w[i, (i + 1) % size] = (num_train - (size - 1)) / (num_train * (size - 1))
    return w


@pytest.mark.parametrize("weights", [StratifiedSampling(), WeightedSampling()], ids=lambda w: type(w).__name__)
def test_total_correlation_equals_a_direct_computation(model, weights):
    with torch.no_grad():
        model.m.zero_()
    epsilon = torch.randn(2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inference = model.inference(epsilon=epsilon)
    bound = BetaTC(2.0, 5.0, 3.0, weights, num_samples=2)
    bound.learn(10)
    loss, terms = bound(inference)
    q = inference.posterior
    w = stratified(4, 10) if isinstance(weights, StratifiedSampling) else np.full((4, 4), 1 / 40)
    z, mean, scale = (v.detach().numpy() for v in (q.rsample((2,)), q.mean, q.stddev))
    parts = direct_total_correlation(z, mean, scale, w)
    names = ("mutual_information", "total_correlation", "kl_of_marginals")
    np.testing.assert_allclose([terms[name].item() for name in names], parts, rtol=1e-10)
    assert (loss + terms["reconstruction"]).item() == pytest.approx(parts @ [2, 5, 3])
    estimate = MonteCarlo()(inference, q.rsample((2,))).mean()
    assert sum(terms[name] for name in names).item() == pytest.approx(estimate.item())


@pytest.mark.parametrize(("size", "num_train"), [(2, 2), (2, 9), (5, 5), (5, 70)])
def test_stratified_weights_sum_to_one_with_a_share_of_their_own(size, num_train):
    w = StratifiedSampling()(size, num_train, torch.empty(0, dtype=torch.float64))
    torch.testing.assert_close(w.sum(1), torch.ones(size, dtype=torch.float64))
    torch.testing.assert_close(w.diagonal(), torch.full((size,), 1 / num_train, dtype=torch.float64))
    assert (w > 0).all()


def test_stratified_weights_are_unbiased():
    num_train, size = 5, 3
    q = torch.tensor([0.7, 0.1, 0.9, 0.3, 0.2], dtype=torch.float64)  # of one latent, which is that of sample 0
    w = StratifiedSampling()(size, num_train, q)
    batches = torch.tensor(list(permutations(range(1, num_train), size - 1)))
    estimates = w[0, 0] * q[0] + (w[0, 1:] * q[batches]).sum(1)
    assert estimates.mean().item() == pytest.approx(q.mean().item())


def test_total_correlation_names_what_does_not_fit(model):
    bound = BetaTC()
    with pytest.raises(ValueError, match="learn"):
        bound(model.inference())
    bound.learn(3)
    with pytest.raises(UserError, match="4 of 3"):
        bound(model.inference())
    bound.learn(10)
    with pytest.raises(UserError, match="1 of 10"):
        bound(model.inference(model.x[:1]))
    inference = model.inference()
    parts = {name: getattr(inference, name) for name in inference.__dataclass_fields__}
    eye = torch.eye(2, dtype=torch.float64)
    parts["posterior"] = MultivariateNormal(inference.posterior.mean, eye)
    with pytest.raises(UserError, match="MultivariateNormal"):
        BetaTC(kl=MonteCarlo())(Inference(**parts))
