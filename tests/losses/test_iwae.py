"""Importance weighted bounds: how they are ordered, what equals what, and which gradients reach whom."""

import pytest
import torch
from linear_gaussian import LinearGaussian, assert_same_mean

from lightning_gen.losses.bounds import CIWAE, ELBO, IWAE, MIWAE, PIWAE, DReG, MonteCarlo, StickingTheLanding


@pytest.fixture
def model():
    return LinearGaussian()


def same_latents(model, bound, count):
    epsilon = torch.randn(count, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return bound(model.inference(epsilon=epsilon))


def assert_equal_bounds(model, a, b, count):
    (loss_a, terms_a), (loss_b, terms_b) = (same_latents(model, bound, count) for bound in (a, b))
    assert loss_a.item() == pytest.approx(loss_b.item())
    assert terms_a["elbo"].item() == pytest.approx(terms_b["elbo"].item())
    torch.testing.assert_close(model.gradients(loss_a), model.gradients(loss_b))


def test_bounds_rise_with_samples_to_log_p(model):
    bounds, errors = [], []
    torch.manual_seed(0)
    for k in (1, 3, 10, 100):
        rows = 100000 // k
        x = model.x.repeat(rows, 1)
        inference = model.inference(x)
        log_w = inference.log_weights(inference.posterior.rsample((k,)))
        each = (log_w.logsumexp(0) - torch.tensor(float(k)).log()).view(rows, 4).mean(1)
        bounds.append(each.mean())
        errors.append(each.std() / rows**0.5)
        torch.manual_seed(k)
        found = IWAE(k)(inference)[1]["bound"]
        assert (found - each.mean()).abs() < 5 * 1.5 * errors[-1]
    exact = model.log_prob().mean()
    for low, high, error in zip(bounds, [*bounds[1:], exact], errors, strict=True):
        assert high - low > 3 * error
    assert bounds[-1] - bounds[0] > 10 * errors[0]
    torch.manual_seed(0)
    assert IWAE(20000)(model.inference())[1]["bound"].item() == pytest.approx(exact.item(), abs=0.05)


def test_every_weight_is_log_p_at_the_true_posterior(model):
    model.use_true_posterior()
    for bound in (IWAE(5), MIWAE(2, 3), PIWAE(2, 3), CIWAE(5), DReG(5)):
        loss, terms = bound(model.inference())
        assert -loss.item() == pytest.approx(model.log_prob().mean().item())
        assert terms["bound"].item() == pytest.approx(model.log_prob().mean().item())


def test_one_sample_gives_the_elbo(model):
    assert_equal_bounds(model, IWAE(1), ELBO(1, MonteCarlo()), 1)
    assert_equal_bounds(model, MIWAE(7, 1), ELBO(7, MonteCarlo()), 7)
    assert_equal_bounds(model, DReG(1), StickingTheLanding(1), 1)


def test_one_mean_gives_iwae(model):
    assert_equal_bounds(model, MIWAE(1, 7), IWAE(7), 7)
    assert_equal_bounds(model, PIWAE(1, 7), IWAE(7), 7)


def test_miwae_is_the_mean_of_its_bounds(model):
    epsilon = torch.randn(6, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parts = [IWAE(3)(model.inference(epsilon=part))[0] for part in epsilon.split(3)]
    loss = same_latents(model, MIWAE(2, 3), 6)[0]
    assert loss.item() == pytest.approx((sum(parts) / 2).item())


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_ciwae_is_the_mixture(model, beta):
    losses = [same_latents(model, bound, 6)[0] for bound in (ELBO(6, MonteCarlo()), IWAE(6), CIWAE(6, beta))]
    elbo, iwae, ciwae = losses
    assert ciwae.item() == pytest.approx((beta * elbo + (1 - beta) * iwae).item())
    of_elbo, of_iwae, of_ciwae = (model.gradients(loss) for loss in losses)
    torch.testing.assert_close(of_ciwae, beta * of_elbo + (1 - beta) * of_iwae)
    assert same_latents(model, CIWAE(6, beta), 6)[1]["bound"].item() == pytest.approx(-iwae.item())


def test_piwae_gives_each_network_the_gradient_of_its_own_bound(model):
    loss, terms = same_latents(model, PIWAE(2, 3), 6)
    iwae, miwae = (same_latents(model, bound, 6) for bound in (IWAE(6), MIWAE(2, 3)))
    everything = model.gradients(loss)
    count = sum(p.numel() for p in model.generative)
    torch.testing.assert_close(everything[:count], model.gradients(iwae[0], model.generative))
    torch.testing.assert_close(everything[count:], model.gradients(miwae[0], model.encoder))
    assert loss.item() == pytest.approx(iwae[0].item())
    assert terms["bound"].item() == pytest.approx(-iwae[0].item())
    assert terms["encoder_bound"].item() == pytest.approx(-miwae[0].item())


def test_dreg_logs_the_bound_and_leaves_the_decoder_its_gradient(model):
    (loss, terms), (iwae, expected) = (same_latents(model, bound, 5) for bound in (DReG(5), IWAE(5)))
    assert loss.item() == pytest.approx(iwae.item())
    assert terms["bound"].item() == pytest.approx(expected["bound"].item())
    count = sum(p.numel() for p in model.generative)
    torch.testing.assert_close(model.gradients(loss)[:count], model.gradients(iwae, model.generative))


def test_dreg_squares_the_weights_of_the_encoder(model):
    epsilon = torch.randn(5, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inference = model.inference(epsilon=epsilon)
    z = inference.posterior.rsample((5,))
    leaf = z.detach().requires_grad_()
    log_w = inference.log_likelihood(leaf) + inference.prior.log_prob(leaf) - inference.frozen_log_posterior(leaf)
    slopes = torch.autograd.grad(log_w.sum(), leaf)[0]
    weights = log_w.softmax(0).detach()
    by_hand = torch.autograd.grad(z, model.encoder, -weights.square()[..., None] * slopes / 4)
    loss = same_latents(model, DReG(5), 5)[0]
    torch.testing.assert_close(model.gradients(loss, model.encoder), torch.cat([g.flatten() for g in by_hand]))


def test_dreg_is_unbiased_and_varies_less(model):
    dreg, iwae = (model.estimates(bound, model.encoder, seed=seed) for seed, bound in ((1, DReG(8)), (2, IWAE(8))))
    assert_same_mean(dreg, iwae)
    assert dreg.var(0).mean() < iwae.var(0).mean()


def test_dreg_can_be_evaluated_without_gradients(model):
    with torch.no_grad():
        loss, terms = DReG(5)(model.inference())
    assert loss.item() == pytest.approx(-terms["bound"].item())
