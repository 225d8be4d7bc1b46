from functools import partial

import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, SGD, ByHand, check_sampling, networks, one_step, squared_error
from autoencoder_fakes import pixel_error as error_of

from lightning_gen.distributions import DiagonalNormal, RingMixture, VampPrior
from lightning_gen.errors import UserError
from lightning_gen.families import WassersteinAutoencoder
from lightning_gen.losses.divergences import RBF, InverseMultiquadric
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.noise import sample_seeds


def build(num_classes=None, optimizer=SGD, width=7, **options):
    return WassersteinAutoencoder(
        *networks(num_classes, width), **{"likelihood": Gaussian(), "optimizer": optimizer} | options
    )


def mmd(p, q, kernel):
    """Equation by equation, pair by pair."""
    n = len(p)
    within = sum(kernel(a[i], a[j]) for a in (p, q) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    return within - 2 * sum(kernel(a, b) for a in p for b in q) / n**2


KERNELS = [
    (InverseMultiquadric([1.0]), lambda a, b: 6 / (6 + (a - b).square().sum())),
    (RBF([0.5]), lambda a, b: (-(a - b).square().sum() / 3).exp()),
]


@pytest.mark.parametrize(("kernel", "by_hand"), KERNELS)
def test_a_step_descends_the_cost_and_the_discrepancy(kernel, by_hand, make_trainer):
    model = build(kernel=kernel, mmd_weight=30.0)
    before, batch, _ = one_step(model, DIGITS(), make_trainer)
    hand, x = ByHand(before), batch["x"]
    drawn, z = torch.randn(4, 3, dtype=torch.float64), hand.code(x)
    cost, discrepancy = squared_error(x, hand.decode(z)), mmd(drawn, z, by_hand)
    torch.manual_seed(0)
    expected = float(mmd(torch.randn(4, 3, dtype=torch.float64), z.detach(), by_hand))
    torch.manual_seed(0)
    loss, terms = before.loss(batch)
    torch.testing.assert_close(terms["reconstruction"].detach(), -cost.detach())
    torch.testing.assert_close(float(terms["mmd"].detach()), expected)
    torch.testing.assert_close(float(loss.detach()), float(cost.detach()) + 30 * expected)
    hand.update(cost + 30 * discrepancy, "encoder.", "posterior.", "decoder.")
    hand.check(model)


@pytest.mark.parametrize("num_classes", [None, 10])
def test_samples_depend_on_their_seeds_alone(num_classes):
    check_sampling(build(num_classes), None if num_classes is None else torch.zeros(6, dtype=torch.int64))


def test_it_learns_and_its_codes_become_the_prior(make_trainer):
    model, trainer = build(optimizer=ADAM, width=48), make_trainer(max_steps=300, limit_val_batches=None)
    before = error_of(model)
    (start,) = trainer.validate(model, DIGITS(batch_size=32), verbose=False)
    trainer.fit(model, DIGITS(batch_size=32))
    (end,) = trainer.validate(model, DIGITS(batch_size=32), verbose=False)
    assert error_of(model) < 0.5 * before
    assert end["val_reconstruction"] > start["val_reconstruction"] + 1
    z = model.encode(DIGITS().examples(512)["x"])
    assert (z.mean(0).abs() < 0.5).all()
    assert ((z.std(0) - 1).abs() < 0.5).all()


def test_a_posterior_with_noise_will_do_too(make_trainer):
    model = build(posterior=DiagonalNormal)
    make_trainer(max_steps=2).fit(model, DIGITS())
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_prior_may_be_a_mixture_and_samples_have_noise(make_trainer):
    make_trainer(max_steps=2).fit(build(prior=RingMixture), DIGITS())
    seeds = sample_seeds(0, torch.arange(50))
    plain, noisy = (build(likelihood=Gaussian(0.1), sample_noise=s).sample(50, seeds=seeds) for s in (False, True))
    assert (noisy - plain)[plain.abs() < 0.5].std().item() == pytest.approx(0.1, rel=0.1)


def test_what_does_not_fit_is_refused(make_trainer):
    with pytest.raises(UserError, match="mmd_weight is -1"):
        build(mmd_weight=-1.0)
    with pytest.raises(UserError, match="prior is VampPrior, which moves with the encoder"):
        build(prior=partial(VampPrior, sample_shape=[1, 8, 8]))
    with pytest.raises(UserError, match="batch_size is 1"):
        make_trainer(max_steps=1).fit(build(), DIGITS(batch_size=1))
