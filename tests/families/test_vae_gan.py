from functools import partial

import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, IMAGE, JUDGE, SGD, ByHand, Deaf, check_sampling, networks, one_step
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
from lightning_gen.families import VAEGAN
from lightning_gen.losses import Minimax, NonSaturating, RelativisticPairing
from lightning_gen.losses.bounds import MonteCarlo
from lightning_gen.losses.likelihoods import BoundedGaussian, Gaussian, SharedGaussian
from lightning_gen.networks import Discriminator, MLPDiscriminator


def build(num_classes=None, optimizer=SGD, width=7, judge=None, **options):
    optimizers = dict.fromkeys(("encoder_optimizer", "decoder_optimizer", "discriminator_optimizer"), optimizer)
    parts = {"likelihood": BoundedGaussian(), "loss": NonSaturating()}
    three = networks(num_classes, width)
    return VAEGAN(*three, **parts | {"discriminator": judge or JUDGE(IMAGE)} | optimizers | options)


def test_the_game_reaches_the_decoder_wherever_its_outputs_are():
    model, outputs = build(likelihood=Gaussian()), []
    model.decoder.register_forward_hook(lambda _m, _i, found: outputs.append(found))
    with torch.no_grad():
        model.decoder.layers[-1].bias.fill_(5.0)
    terms = model.losses(DIGITS().examples(4))[1]
    for name, used in (("features", outputs[:1]), ("g_loss", outputs)):
        for gradient, found in zip(torch.autograd.grad(terms[name], used, retain_graph=True), used, strict=True):
            assert found.min() > 1
            assert (gradient != 0).float().mean() > 0.9


GENERATOR = {NonSaturating: lambda fake: softplus(-fake), Minimax: lambda fake: -softplus(fake)}


def losses_by_hand(hand, x, z_noise, prior_draw, gamma, of_fake):
    """KL, feature loss, and the three losses of algorithm 1."""
    loc, log_variance = hand.normal(x)
    z = loc + (log_variance / 2).exp() * z_noise
    kl = 0.5 * (loc.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
    (real, f), (again, f_again), (drawn, _) = (
        hand.judge(each) for each in (x, hand.decode(z).tanh(), hand.decode(prior_draw).tanh())
    )
    features = 0.5 * (f - f_again).square().sum(1).mean()
    game = of_fake(again).mean() + of_fake(drawn).mean()
    judge = softplus(-real).mean() + 0.5 * softplus(again).mean() + 0.5 * softplus(drawn).mean()
    return kl, features, (kl + features, gamma * features + game, judge)


GROUPS = (("encoder.", "posterior."), ("decoder.",), ("discriminator.",))


@pytest.mark.parametrize(("loss", "accumulate"), [(NonSaturating(), 1), (Minimax(), 2)])
def test_a_step_is_that_of_algorithm_1(loss, accumulate, make_trainer):
    model = build(loss=loss, feature_weight=0.3, accumulate_grad_batches=accumulate)
    before, batch, terms = one_step(model, DIGITS(), make_trainer)
    hand, gradients, found = ByHand(before), {}, []
    for x in batch["x"].split(4):
        noise = torch.randn(1, 4, 3, dtype=torch.float64)[0], torch.randn(4, 3, dtype=torch.float64)
        kl, features, losses = losses_by_hand(hand, x, *noise, 0.3, GENERATOR[type(loss)])
        found.append(torch.stack((kl, features, losses[2])).detach())
        for each, group in zip(losses, GROUPS, strict=True):
            for name, g in hand.gradients(each, *group).items():
                gradients[name] = gradients.get(name, 0) + g / accumulate
    assert len(found) == accumulate
    got = torch.stack((terms["kl"], terms["features"], terms["d_loss"]))
    torch.testing.assert_close(got, torch.stack(found).mean(0))
    hand.apply(gradients)
    hand.check(model)


def test_gradients_go_where_the_paper_sends_them(make_trainer):
    """Without weights for features and with a game that says nothing, only the encoder moves; and the like."""

    class Silent(NonSaturating):
        def generator(self, fake, real=None):
            return 0 * fake.mean()

        def discriminator(self, real, fake):
            return 0 * (real + fake).mean()

    def moved(**options):
        model = build(**options)
        before, _, _ = one_step(model, DIGITS(), make_trainer)
        old = dict(before.named_parameters())
        return {name.split(".")[0] for name, p in model.named_parameters() if not torch.equal(p, old[name])}

    assert moved(loss=Silent(), feature_weight=0.0) == {"encoder", "posterior"}
    assert moved(loss=Silent()) == {"encoder", "posterior", "decoder"}
    assert moved() == {"encoder", "posterior", "decoder", "discriminator"}


def test_the_encoder_does_not_hear_of_the_game(make_trainer):
    found = []
    for loss in (NonSaturating(), Minimax()):
        model = build(loss=loss)
        one_step(model, DIGITS(), make_trainer)
        found.append(torch.cat([p.flatten() for m in (model.encoder, model.posterior) for p in m.parameters()]))
        found.append(torch.cat([p.flatten() for p in model.decoder.parameters()]))
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-14)
    assert not torch.allclose(found[1], found[3])


@pytest.mark.parametrize("num_classes", [None, 10])
def test_samples_depend_on_their_seeds_alone(num_classes):
    check_sampling(build(num_classes), None if num_classes is None else torch.zeros(6, dtype=torch.int64))


def test_a_conditional_and_relativistic_game_can_be_played(make_trainer):
    judge = JUDGE(IMAGE, num_classes=10)
    options = {"prior": DiagonalNormal, "prior_features": 2, "loss": RelativisticPairing(), "gradient_clip_val": 1.0}
    model = build(10, ADAM, judge=judge, **options)
    before = {name: p.clone() for name, p in model.named_parameters()}
    make_trainer(max_steps=3).fit(model, DIGITS())
    for name, p in model.named_parameters():
        assert p.isfinite().all()
        if name != "discriminator.score.bias":  # cancels in differences of scores
            assert not torch.equal(p, before[name]), name


def test_it_learns(make_trainer):
    judge = MLPDiscriminator(IMAGE, 64, 1)
    model = build(optimizer=partial(ADAM, betas=(0.5, 0.99)), width=64, judge=judge, feature_weight=1.0)
    trainer, before = make_trainer(max_steps=300, limit_val_batches=None), error_of(model)
    trainer.fit(model, DIGITS(batch_size=32))
    assert error_of(model) < 0.6 * before
    (found,) = trainer.validate(model, DIGITS(batch_size=32), verbose=False)
    assert found["val_elbo"] == pytest.approx(found["val_reconstruction"] - found["val_kl"], rel=1e-4)


class Featureless(Discriminator):
    def forward(self, x, y=None):
        return x.flatten(1).sum(1)


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (Featureless(), "gives no features"),
        (JUDGE([1, 4, 4]), "cannot read data's samples"),
        (Deaf(), "gives no features"),
    ],
)
def test_a_discriminator_that_does_not_fit_is_refused(judge, words, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(max_steps=1).fit(build(judge=judge), DIGITS())


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="discriminator is 10 but the decoder's is None"):
        build(judge=JUDGE(IMAGE, num_classes=10))
    with pytest.raises(UserError, match="SharedGaussian with parameters"):
        build(likelihood=SharedGaussian())
    with pytest.raises(UserError, match="feature_weight is -1"):
        build(feature_weight=-1.0)


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
        ({"likelihood": BoundedGaussian(1e-30)}, "-inf before training, with the likelihood BoundedGaussian"),
    ):
        with pytest.raises(UserError, match=words):
            build(**options).check_data(DIGITS())


def test_samples_have_noise_where_it_is_asked_for():
    seeds = torch.arange(6)
    noisy, plain = (build(sample_noise=noise).sample(6, seeds=seeds) for noise in (True, False))
    assert (noisy - plain).std() > 0.1
    assert torch.equal(noisy, build(sample_noise=True).sample(6, seeds=seeds))
