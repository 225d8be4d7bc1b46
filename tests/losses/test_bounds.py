"""Bounds with one latent at a time: values and gradients in closed form, and what each does to the divergence."""

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian, assert_same_mean, normal
from torch.distributions import Independent, MultivariateNormal, Normal, StudentT

from lightning_gen.errors import UserError
from lightning_gen.losses.bounds import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    BetaELBO,
    BetaTC,
    Capacity,
    ClosedForm,
    DReG,
    Inference,
    InfoVAE,
    Levelwise,
    MonteCarlo,
    StickingTheLanding,
)
from lightning_gen.losses.divergences import RBF


@pytest.fixture
def model():
    return LinearGaussian()


@pytest.mark.parametrize("bound", [ELBO(), ELBO(3, MonteCarlo()), StickingTheLanding(2)])
def test_elbo_has_the_exact_value_and_gradient(model, bound):
    estimates = model.estimates(lambda inference: bound(inference))
    assert_same_mean(estimates, model.gradients(-model.elbo()))
    torch.manual_seed(1)
    terms = bound(model.inference(model.x.repeat(5000, 1)))[1]
    expected = {"elbo": model.elbo(), "reconstruction": model.reconstruction().mean()}
    expected["kl"] = model.kl_per_latent().sum(-1).mean()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), abs=0.1), name
    assert terms["elbo"].item() == pytest.approx((terms["reconstruction"] - terms["kl"]).item())


def test_elbo_is_log_p_at_the_true_posterior(model):
    model.use_true_posterior()
    assert model.elbo().item() == pytest.approx(model.log_prob().mean().item())
    loss = ELBO(4, MonteCarlo())(model.inference())[0]  # log w is the same for every latent
    assert -loss.item() == pytest.approx(model.log_prob().mean().item())


def test_sticking_the_landing_has_no_variance_at_the_true_posterior(model):
    model.use_true_posterior()
    sticking = model.estimates(StickingTheLanding(), model.encoder, rows=1, repeats=3)
    assert sticking.abs().max() < 1e-10
    assert model.estimates(ELBO(), model.encoder, rows=1, repeats=3).abs().max() > 0.1


@pytest.mark.parametrize(
    "bound",
    [
        ELBO(6),
        BetaELBO(2.0, 0.5, num_samples=6),
        Capacity(3.0, 1.0, num_samples=6),
        StickingTheLanding(6),
        IWAE(6),
        MIWAE(2, 3),
        PIWAE(2, 3),
        CIWAE(6, 0.3),
        DReG(6),
    ],
    ids=lambda bound: type(bound).__name__,
)
def test_a_batch_twice_has_the_same_loss_and_gradient(model, bound):
    epsilon = torch.randn(6, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = bound(model.inference(epsilon=epsilon))[0]
    twice = bound(model.inference(model.x.repeat(2, 1), epsilon.repeat(1, 2, 1)))[0]
    assert once.item() == pytest.approx(twice.item())
    torch.testing.assert_close(model.gradients(once), model.gradients(twice))


def test_beta_weighs_the_divergence(model):
    torch.manual_seed(0)
    loss, terms = BetaELBO(beta=4)(model.inference())
    assert loss.item() == pytest.approx((4 * model.kl_per_latent().sum(-1).mean() - terms["reconstruction"]).item())
    torch.manual_seed(0)
    assert terms["elbo"].item() == pytest.approx(-ELBO()(model.inference())[0].item())


def test_an_estimate_below_zero_is_kept_without_free_bits(model):
    model.use_true_posterior()
    epsilon = torch.zeros(1, 4, 2, dtype=torch.float64)
    with torch.no_grad():
        model.a.zero_()
        model.c.copy_(model.m)
        model.log_s.fill_(0.5)  # log q(z) − log p(z) = −½ at the mode of both
    loss, terms = BetaELBO(2.0, kl=MonteCarlo())(model.inference(epsilon=epsilon))
    assert terms["kl"].item() == pytest.approx(-1.0)
    assert (loss + terms["reconstruction"]).item() == pytest.approx(-2.0)


def test_free_bits_leave_latents_alone_whose_divergence_is_small(model):
    with torch.no_grad():
        model.w.zero_()  # nothing but the divergence has a gradient in the encoder
        model.c.copy_(model.m + torch.tensor([0.1, 3.0]))
        model.a.mul_(0.1)
        model.log_s.fill_(0.0)
    kl = model.kl_per_latent().mean(0)
    assert kl[0] < 1 < kl[1]
    loss, terms = BetaELBO(2.0, free_bits=1.0)(model.inference())
    assert (loss + terms["reconstruction"]).item() == pytest.approx(2 * (1 + kl[1].item()))
    found, exact = model.gradients(loss, [model.c]), model.gradients(2 * kl.sum(), [model.c])
    assert found[0] == 0
    assert found[1].item() == pytest.approx(exact[1].item())


def test_free_bits_of_latents_that_depend_on_each_other_are_those_of_all_together(model):
    inference = model.inference()
    mean = inference.posterior.mean
    covariance = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    prior = MultivariateNormal(model.m.detach(), torch.eye(2, dtype=torch.float64))
    parts = {name: getattr(inference, name) for name in inference.__dataclass_fields__}
    joint = Inference(**parts | {"posterior": MultivariateNormal(mean, covariance), "prior": prior})
    for free_bits, kept in ((100.0, True), (0.001, False)):
        loss, terms = BetaELBO(1.0, free_bits)(joint)
        expected = torch.tensor(2 * free_bits) if kept else terms["kl"]
        assert (loss + terms["reconstruction"]).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("capacity", [0.0, 100.0])
def test_capacity_pulls_the_divergence_towards_it(model, capacity):
    torch.manual_seed(0)
    loss, terms = Capacity(7.0, capacity)(model.inference())
    kl = model.kl_per_latent().sum(-1).mean()
    assert (loss + terms["reconstruction"]).item() == pytest.approx(7 * abs(kl.item() - capacity))
    found = model.gradients(loss + terms["reconstruction"])
    torch.testing.assert_close(found, model.gradients(7 * (kl - capacity).abs()))


# ---------------------------------------------------------------------- InfoVAE


def test_infovae_is_the_stated_sum(model):
    g = torch.Generator().manual_seed(0)
    draws = [torch.randn(*shape, 4, 2, dtype=torch.float64, generator=g) for shape in ((2,), ())]
    inference = model.inference(None, *draws)
    loss, terms = InfoVAE(0.25, 9.0, RBF([0.5, 2.0]), num_samples=2)(inference)
    a = inference.posterior.rsample((2,))[0].detach().numpy()  # the others are no further draws from q(z)
    b = inference.prior.rsample((4,)).detach().numpy()

    def k(u, v):
        return np.mean([np.exp(-((u - v) ** 2).sum() / (scale * 4)) for scale in (0.5, 2.0)])

    within = [np.mean([k(s[i], s[j]) for i in range(4) for j in range(4) if i != j]) for s in (a, b)]
    mmd = sum(within) - 2 * np.mean([k(u, v) for u in a for v in b])
    assert terms["mmd"].item() == pytest.approx(mmd)
    assert (loss + terms["reconstruction"]).item() == pytest.approx(0.75 * terms["kl"].item() + 8.25 * mmd)


def test_the_discrepancy_has_no_bias_whatever_the_number_of_latents(model):
    """Posterior and prior are alike over the data: of E_x q(z | x) and p(z) the expected estimate is 0."""
    with torch.no_grad():
        model.m.zero_()
        model.c.zero_()
        model.a.copy_(torch.tensor([[0.8, 0.0, 0.0], [0.0, 0.8, 0.0]]))
        model.log_s.fill_(0.5 * torch.log(torch.tensor(1 - 0.64)))
    torch.manual_seed(0)
    found = []
    for _ in range(300):
        x = torch.randn(8, 3, dtype=torch.float64)
        found.append(InfoVAE(num_samples=4)(model.inference(x))[1]["mmd"].item())
    assert abs(np.mean(found)) < 4 * np.std(found) / 300**0.5


@pytest.mark.parametrize("bound", [InfoVAE(), BetaTC()], ids=lambda bound: type(bound).__name__)
def test_batches_whose_samples_cannot_be_compared_are_refused(bound):
    with pytest.raises(UserError, match=f"{type(bound).__name__} compares .* has 1 of 9"):
        bound.check(1, 9)
    with pytest.raises(UserError, match="10 of 9"):
        bound.check(10, 9)
    bound.check(2, 9)
    ELBO().check(1, 1)


def test_infovae_without_information_and_discrepancy_is_the_elbo(model):
    losses = []
    for bound in (InfoVAE(0.0, 1.0), ELBO()):
        torch.manual_seed(0)
        losses.append(bound(model.inference())[0].item())
    assert losses[0] == pytest.approx(losses[1])


def test_infovae_compares_with_a_prior_for_each_sample(model):
    inference = model.inference()
    parts = {name: getattr(inference, name) for name in inference.__dataclass_fields__}
    # every sample has its own prior: the same as its posterior, and far from the others'
    mean = torch.arange(4.0, dtype=torch.float64)[:, None].repeat(1, 2)
    narrow = normal(mean, torch.full_like(mean, 1e-6))
    matched = Inference(**parts | {"prior": narrow, "posterior": narrow})
    # unbiased: the 4 points of both sets pair with each other, and their diagonals are left out
    k = RBF()(mean, mean)
    off = (k.sum() - 4) / 12
    assert InfoVAE()(matched)[1]["mmd"].item() == pytest.approx((2 * off - 2 * k.mean()).item(), abs=1e-4)


# ---------------------------------------------------------------------- arguments and divergences


def test_a_divergence_without_closed_form_names_the_estimator(model):
    inference = model.inference()
    parts = {name: getattr(inference, name) for name in inference.__dataclass_fields__}
    zeros = torch.zeros(2, dtype=torch.float64)
    without = Inference(**parts | {"prior": Independent(StudentT(zeros + 3.0), 1)})
    z = without.posterior.rsample((3,))
    for closed in (ClosedForm(), ClosedForm().per_latent):
        with pytest.raises(UserError, match=r"posterior Normal from a prior StudentT .* kl to MonteCarlo"):
            closed(without, z)
    assert MonteCarlo()(without, z).shape == (4,)
    assert MonteCarlo().per_latent(without, z).shape == (4, 2)


@pytest.mark.parametrize(
    ("bound", "differentiates", "closed"),
    [
        (ELBO(), False, True),
        (ELBO(kl=MonteCarlo()), True, False),
        (BetaELBO(kl=Levelwise()), False, False),
        (InfoVAE(), False, True),
        (BetaTC(), True, True),
        *((bound, True, False) for bound in (IWAE(), MIWAE(), PIWAE(), CIWAE(), StickingTheLanding(), DReG())),
    ],
)
def test_bounds_say_which_gradients_and_divergences_they_need(bound, differentiates, closed):
    assert (bound.differentiates_log_prob, bound.needs_closed_form) == (differentiates, closed)


@pytest.mark.parametrize("bound", [ELBO(), ELBO(kl=MonteCarlo()), InfoVAE(), IWAE(3), DReG(3), StickingTheLanding()])
def test_the_gradient_goes_through_log_prob_as_the_bound_says(model, bound):
    """With a density whose gradient cannot be taken."""

    class Opaque(Normal):
        def log_prob(self, value):
            assert not value.requires_grad
            return super().log_prob(value)

    inference = model.inference()
    parts = {name: getattr(inference, name) for name in inference.__dataclass_fields__}
    for name in ("posterior", "prior"):
        base = parts[name].base_dist
        parts[name] = Independent(Opaque(base.loc, base.scale, validate_args=False), 1, validate_args=False)
    if bound.differentiates_log_prob:
        with pytest.raises(AssertionError):
            bound(Inference(**parts))
    else:
        bound(Inference(**parts))


def test_divergences_of_latents_add_up(model):
    inference = model.inference()
    z = inference.posterior.rsample((3,))
    for estimator in (ClosedForm(), MonteCarlo()):
        torch.testing.assert_close(estimator.per_latent(inference, z).sum(-1), estimator(inference, z))
    torch.testing.assert_close(ClosedForm().per_latent(inference, z), model.kl_per_latent())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ELBO(0), "ELBO.num_samples is 0"),
        (lambda: BetaELBO(-1.0), "BetaELBO.beta is -1"),
        (lambda: BetaELBO(free_bits=-0.1), "BetaELBO.free_bits is -0.1"),
        (lambda: Capacity(capacity=-1.0), "Capacity.capacity is -1"),
        (lambda: BetaTC(gamma=-1.0), "BetaTC.gamma is -1"),
        (lambda: InfoVAE(alpha=2.0), "InfoVAE.alpha is 2"),
        (lambda: InfoVAE(alpha=0.0, weight=0.5), "InfoVAE.weight is 0.5: it must be at least 1"),
        (lambda: StickingTheLanding(0), "StickingTheLanding.num_samples is 0"),
        (lambda: IWAE(0), "IWAE.num_samples is 0"),
        (lambda: MIWAE(0, 2), "MIWAE.num_means is 0"),
        (lambda: PIWAE(2, 0), "PIWAE.num_samples is 0"),
        (lambda: CIWAE(beta=1.5), "CIWAE.beta is 1.5"),
    ],
)
def test_arguments_out_of_range_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
