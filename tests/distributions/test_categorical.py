"""Discrete latents, against torch's categorical distributions and by enumeration."""

from functools import partial

import pytest
import torch
from scipy.stats import ks_2samp
from torch.distributions import Categorical, RelaxedOneHotCategorical, kl_divergence

from lightning_gen.distributions import GumbelSoftmax, StraightThroughCategorical, UniformCategorical
from lightning_gen.distributions.categorical import OneHots, RelaxedOneHots
from lightning_gen.errors import UserError
from lightning_gen.families import VAE
from lightning_gen.losses.likelihoods import Bernoulli
from lightning_gen.networks.autoencoders import MLPDecoder, MLPEncoder
from lightning_gen.noise import Noise, sample_seeds

D, K, F, B = 2, 3, 4, 5


@pytest.fixture(params=[GumbelSoftmax, StraightThroughCategorical])
def posterior(request):
    torch.manual_seed(0)
    layer = request.param(D, F, num_categories=K).double()
    torch.nn.init.normal_(layer.parameters_of.linear.weight)
    return layer


def features():
    return torch.randn(B, F, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def all_latents(dtype=torch.float64):
    """The K^d one-hot rows (K^d, d·K)."""
    values = torch.cartesian_prod(*[torch.arange(K)] * D)
    return torch.nn.functional.one_hot(values, K).to(dtype).flatten(1)


@pytest.mark.parametrize("prior", [UniformCategorical, StraightThroughCategorical, GumbelSoftmax])
@pytest.mark.parametrize("training", [True, False])
def test_divergence_is_that_of_the_categorical_variables(posterior, prior, training):
    q = posterior.train(training)(features())
    prior = prior(D, num_categories=K).double().train(training)
    for p in prior.parameters():
        torch.nn.init.normal_(p)
    p = prior()
    expected = kl_divergence(Categorical(logits=q.logits), Categorical(logits=p.logits)).sum(-1)
    torch.testing.assert_close(kl_divergence(q, p), expected)
    z = all_latents()
    log_q, log_p = q.log_prob(z[:, None]), p.log_prob(z)[:, None]
    torch.testing.assert_close((log_q.exp() * (log_q - log_p)).sum(0), expected)


def test_probabilities_of_all_latents_sum_to_one(posterior):
    q = posterior(features())
    log_probs = q.log_prob(all_latents()[:, None])
    torch.testing.assert_close(log_probs.exp().sum(0), torch.ones(B).double())
    each = Categorical(logits=q.logits)
    value = torch.tensor([2, 0])
    z = torch.nn.functional.one_hot(value, K).double().flatten()
    torch.testing.assert_close(q.log_prob(z), each.log_prob(value).sum(-1))
    torch.testing.assert_close(q.entropy(), each.entropy().sum(-1))


def test_samples_are_hard_in_evaluation_mode_and_soft_in_training():
    layer = GumbelSoftmax(D, F, num_categories=K, temperature=0.7)
    h = torch.randn(B, F)
    soft, hard = layer.train()(h).rsample((9,)), layer.eval()(h).rsample((9,))
    for z in (soft, hard):
        torch.testing.assert_close(z.unflatten(-1, (D, K)).sum(-1), torch.ones(9, B, D))
    assert ((hard == 0) | (hard == 1)).all()
    assert ((soft > 0) & (soft < 1)).all()
    straight = StraightThroughCategorical(D, F, num_categories=K)(h).rsample((9,))
    assert ((straight == 0) | (straight == 1)).all()
    assert straight.requires_grad


def test_hard_samples_have_their_probabilities():
    torch.manual_seed(0)
    q = OneHots(torch.randn(D, K))
    z = q.sample((20000,))
    for sample in (z, RelaxedOneHots(q.logits, 0.4).sample((20000,))):
        frequency = (
            (sample.unflatten(-1, (D, K)) == sample.unflatten(-1, (D, K)).amax(-1, keepdim=True)).float().mean(0)
        )
        error = (q.logits.exp() * (1 - q.logits.exp()) / len(z)).sqrt()
        assert ((frequency - q.logits.exp()).abs() < 4.5 * error).all()
    pairs = torch.einsum("ni,nj->ij", z, z) / len(z)
    assert ((pairs - torch.outer(q.mean, q.mean))[:K, K:].abs() < 4.5 * 0.5 / len(z) ** 0.5).all()


def test_relaxed_samples_are_torchs():
    torch.manual_seed(0)
    logits = torch.randn(D, K)
    ours = RelaxedOneHots(logits, 0.6).sample((3000,)).unflatten(-1, (D, K))
    torchs = RelaxedOneHotCategorical(torch.tensor(0.6), logits=logits).sample((3000,))
    assert all(ks_2samp(ours[:, i, k], torchs[:, i, k]).pvalue > 1e-4 for i in range(D) for k in range(K))


def test_straight_through_gradient_is_that_of_the_probabilities():
    torch.manual_seed(0)
    logits = torch.randn(B, D, K, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(B, D * K).double()
    (found,) = torch.autograd.grad((weights * OneHots(logits).rsample()).sum(), logits)
    (expected,) = torch.autograd.grad((weights * logits.softmax(-1).flatten(-2)).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_relaxed_gradient_is_that_of_the_softmax():
    torch.manual_seed(0)
    logits = torch.randn(B, D, K, dtype=torch.float64, requires_grad=True)
    noise = -torch.rand(B, D, K).double().log().neg().log()
    assert torch.autograd.gradcheck(lambda x: RelaxedOneHots(x, 0.5).perturbed(noise), logits)
    torch.testing.assert_close(
        RelaxedOneHots(logits, 0.5).perturbed(noise), torch.softmax((logits.log_softmax(-1) + noise) / 0.5, dim=-1)
    )


def test_temperature_can_be_annealed():
    layer = GumbelSoftmax(D, F, num_categories=K)
    assert layer.temperature == 1.0
    layer.temperature = 0.05
    assert layer(torch.randn(50, F)).rsample().unflatten(-1, (D, K)).amax(-1).median() > 0.95


def test_the_most_likely_latents_stand_for_a_distribution(posterior):
    q = posterior(features())
    z = posterior.mean(q)
    assert torch.equal(q.log_prob(z), q.log_prob(all_latents()[:, None]).amax(0))
    assert z.shape == (B, posterior.sample_dim) == (B, D * K)
    torch.testing.assert_close(q.mean, q.logits.exp().flatten(1))


def test_likelihood_by_importance_sampling_is_that_of_the_enumeration():
    torch.manual_seed(0)
    shape = [1, 2, 2]
    discrete = {"num_categories": K}
    model = VAE(
        encoder=MLPEncoder(sample_dim=shape, width=6, depth=1),
        decoder=partial(MLPDecoder, sample_dim=shape, width=6, depth=1),
        latent_dim=D,
        likelihood=Bernoulli(),
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        posterior=partial(GumbelSoftmax, **discrete),
        prior=partial(UniformCategorical, **discrete),
    ).double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    x = torch.where(torch.rand(B, *shape) < 0.5, -1.0, 1.0).double()
    z, num = all_latents(), 4000
    given_z = torch.stack([model.likelihood(model.decoder(row.expand(B, -1), None), x) for row in z])  # (K^d, B)
    expected = given_z.detach().logsumexp(0) - torch.tensor(float(len(z))).log()
    found = model.log_likelihood(x, None, Noise(sample_seeds(0, torch.arange(B))), num)
    model.eval()
    weights = (given_z.detach() - torch.tensor(float(len(z))).log()).exp()
    q = model.posterior_of(x, None).log_prob(z[:, None]).exp().detach()
    deviation = ((weights**2 / q).sum(0) / weights.sum(0) ** 2 - 1).clamp(min=0).sqrt()  # of one ratio p(x, z)/q(z|x)
    assert ((found - expected).abs() < 4.5 * deviation / num**0.5 + 1e-6).all()
    assert (deviation > 0.1).any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match="num_categories is 1"):
        UniformCategorical(D, num_categories=1)
    with pytest.raises(UserError, match="temperature is 0"):
        GumbelSoftmax(D, F, temperature=0.0)
    with pytest.raises(UserError, match="does not depend on features"):
        UniformCategorical(D, F)
