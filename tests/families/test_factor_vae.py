from functools import partial

import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, JUDGE, SGD, ByHand, Deaf, check_sampling, networks, one_step, squared_error
from autoencoder_fakes import pixel_error as error_of
from torch.nn.functional import softplus

from lightning_gen.distributions import (
    DiagonalNormal,
    GumbelSoftmax,
    NormalMixture,
    RectifiedNormal,
    UniformCategorical,
)
from lightning_gen.errors import UserError
from lightning_gen.families import FactorVAE
from lightning_gen.families.factor_vae import permute_dimensions
from lightning_gen.losses.bounds import MonteCarlo
from lightning_gen.losses.likelihoods import Gaussian


def build(num_classes=None, optimizer=SGD, width=7, judge=JUDGE, **options):
    parts = {"likelihood": Gaussian(), "discriminator": judge}
    optimizers = {"optimizer": optimizer, "discriminator_optimizer": optimizer}
    return FactorVAE(*networks(num_classes, width), **parts | optimizers | options)


def latents(hand, x):
    loc, log_variance = hand.normal(x)
    kl = 0.5 * (loc.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    return loc + (log_variance / 2).exp() * torch.randn(4, 3, dtype=torch.float64), kl


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_is_that_of_algorithm_2(accumulate, make_trainer):
    model = build(tc_weight=3.0, accumulate_grad_batches=accumulate)
    before, batch, terms = one_step(model, DIGITS(), make_trainer)
    hand, rows = ByHand(before), batch["x"].split(4)
    assert len(rows) == 2 * accumulate
    loss, drawn, correlations = 0, [], []
    for x in rows[:accumulate]:
        z, kl = latents(hand, x)
        drawn.append(z.detach())
        correlations.append(hand.judge(z)[0].mean())
        loss += (squared_error(x, hand.decode(z)) + kl + 3 * correlations[-1]) / accumulate
    gradients = hand.gradients(loss, "encoder.", "posterior.", "decoder.")
    loss = 0
    for x, z in zip(rows[accumulate:], drawn, strict=True):
        other, _ = latents(hand, x)
        order = torch.rand(4, 3, dtype=torch.float64).argsort(0)
        mixed = torch.stack([other.detach()[order[:, k], k] for k in range(3)], dim=1)
        loss += (softplus(-hand.judge(z)[0]) + softplus(hand.judge(mixed)[0])).mean() / 2 / accumulate
    torch.testing.assert_close(terms["tc"], torch.stack(correlations).mean().detach())
    torch.testing.assert_close(terms["d_loss"], loss.detach())
    hand.apply(gradients | hand.gradients(loss, "discriminator."))
    hand.check(model)


def test_permutation_keeps_the_marginals_and_breaks_the_dependence():
    torch.manual_seed(0)
    column = torch.randn(4000, 1)
    mixed = permute_dimensions(column.repeat(1, 3))
    for k in range(3):
        torch.testing.assert_close(mixed[:, k].sort().values, column[:, 0].sort().values)
    assert (mixed.T.corrcoef() - torch.eye(3)).abs().max() < 5 / 4000**0.5


def test_the_discriminator_finds_the_total_correlation_of_a_normal_distribution():
    torch.manual_seed(0)
    judge, rho = JUDGE(2, width=32, depth=2), 0.8
    optimizer = torch.optim.Adam(judge.parameters(), 3e-3)
    for step in range(301):
        e = torch.randn(2, 1024, 2)
        z = torch.stack((e[..., 0], rho * e[..., 0] + (1 - rho**2) ** 0.5 * e[..., 1]), dim=-1)
        real, fake = judge(z[0]).scores, judge(permute_dimensions(z[1])).scores
        if step < 300:
            optimizer.zero_grad()
            (softplus(-real).mean() + softplus(fake).mean()).backward()
            optimizer.step()
    assert float(real.detach().mean()) == pytest.approx(-0.5 * torch.tensor(1 - rho**2).log().item(), abs=0.15)


@pytest.mark.parametrize("num_classes", [None, 10])
def test_samples_depend_on_their_seeds_alone(num_classes):
    check_sampling(build(num_classes), None if num_classes is None else torch.zeros(6, dtype=torch.int64))


def test_it_learns(make_trainer):
    model = build(optimizer=ADAM, width=48, judge=partial(JUDGE, width=32), tc_weight=2.0, kl=MonteCarlo())
    trainer, before = make_trainer(max_steps=150, limit_val_batches=None), error_of(model)
    data = partial(DIGITS, batch_size=32)
    model.likelihood.scale = 0.3
    (start,) = trainer.validate(model, data(), verbose=False)
    trainer.fit(model, data())
    (end,) = trainer.validate(model, data(), verbose=False)
    assert trainer.global_step == 150
    assert error_of(model) < 0.6 * before
    assert end["val_elbo"] > start["val_elbo"] + 50


def test_parts_that_do_not_fit_are_refused(make_trainer):
    with pytest.raises(UserError, match="discriminator is 10"):
        build(judge=partial(JUDGE, num_classes=10))
    with pytest.raises(UserError, match="tc_weight is -1"):
        build(tc_weight=-1.0)
    with pytest.raises(UserError, match="scores of shape"):
        make_trainer(max_steps=1).fit(build(judge=lambda dim: Deaf()), DIGITS())


def test_layers_that_do_not_go_together_are_refused_before_training():
    discrete = {"prior": partial(UniformCategorical, num_categories=4)}
    for options, words in (
        ({"posterior": RectifiedNormal}, "RectifiedNormal.* is infinite"),
        ({"posterior": RectifiedNormal, "kl": MonteCarlo()}, "RectifiedNormal.* is infinite"),
        ({"posterior": DiagonalNormal, "prior": NormalMixture}, r"set model\.init_args\.kl to MonteCarlo"),
        (
            {"posterior": partial(GumbelSoftmax, num_categories=4), "kl": MonteCarlo(), **discrete},
            r"model\.init_args\.kl is MonteCarlo, .* posterior GumbelSoftmax are no densities .* use ClosedForm",
        ),
        ({"likelihood": Gaussian(1e-30)}, "-inf before training, with the likelihood Gaussian"),
    ):
        with pytest.raises(UserError, match=words):
            build(**options).check_data(DIGITS())


def test_samples_have_noise_where_it_is_asked_for():
    seeds = torch.arange(6)
    noisy, plain = (build(sample_noise=noise).sample(6, seeds=seeds) for noise in (True, False))
    assert (noisy - plain).std() > 0.1
    assert torch.equal(noisy, build(sample_noise=True).sample(6, seeds=seeds))
