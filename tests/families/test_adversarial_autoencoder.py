import copy
from functools import partial

import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, JUDGE, SGD, ByHand, Deaf, check_sampling, networks, one_step, squared_error
from autoencoder_fakes import pixel_error as error_of
from torch.distributions import Independent, Normal
from torch.nn.functional import softplus

from lightning_gen.distributions import (
    DiagonalNormal,
    NormalMixture,
    RingMixture,
    StandardNormal,
    VampPrior,
    VariationalLayer,
)
from lightning_gen.errors import UserError
from lightning_gen.families import AdversarialAutoencoder
from lightning_gen.losses import NonSaturating, RelativisticPairing
from lightning_gen.losses.likelihoods import Bernoulli, Gaussian
from lightning_gen.networks import DCGANDiscriminator
from lightning_gen.noise import Noise, sample_seeds


def build(num_classes=None, loss=None, optimizer=SGD, judge=JUDGE, width=7, **options):
    optimizers = dict.fromkeys(("autoencoder_optimizer", "discriminator_optimizer", "encoder_optimizer"), optimizer)
    parts = {"likelihood": Gaussian(), "discriminator": judge, "loss": loss or NonSaturating()}
    return AdversarialAutoencoder(*networks(num_classes, width), **parts | optimizers | options)


@pytest.mark.parametrize(("critic_steps", "accumulate"), [(1, 1), (2, 2)])
def test_a_step_has_the_three_phases_of_the_paper(critic_steps, accumulate, make_trainer):
    model = build(num_critic_steps=critic_steps, accumulate_grad_batches=accumulate)
    before, batch, terms = one_step(model, DIGITS(), make_trainer)
    hand, rows = ByHand(before), batch["x"].split(4)
    assert len(rows) == critic_steps * accumulate
    last = rows[-accumulate:]
    loss = sum(squared_error(x, hand.decode(hand.code(x))) for x in last) / accumulate
    torch.testing.assert_close(terms["reconstruction"], -loss.detach())
    hand.update(loss, "encoder.", "posterior.", "decoder.")
    for start in range(0, len(rows), accumulate):
        loss = 0
        for x in rows[start : start + accumulate]:
            drawn = torch.randn(4, 3, dtype=torch.float64)
            loss += (softplus(-hand.judge(drawn)[0]) + softplus(hand.judge(hand.code(x))[0])).mean() / accumulate
        hand.update(loss, "discriminator.")
    torch.testing.assert_close(terms["d_loss"], loss.detach())
    loss = sum(softplus(-hand.judge(hand.code(x))[0]).mean() for x in last) / accumulate
    torch.testing.assert_close(terms["g_loss"], loss.detach())
    hand.update(loss, "encoder.", "posterior.")
    hand.check(model)


def test_each_phase_trains_its_networks_alone():
    model = build(loss=RelativisticPairing())
    batch = DIGITS().examples(4)

    def trained(loss):
        model.zero_grad(set_to_none=True)
        loss(batch)[0].backward()
        return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}

    assert trained(model.reconstruction_loss) == {"encoder", "posterior", "decoder"}
    assert trained(model.discriminator_loss) == {"discriminator"}
    with torch.no_grad():
        assert model.encoder_loss(batch)[0].isfinite()
    for p in model.discriminator.parameters():
        p.requires_grad_(False)
    assert trained(model.encoder_loss) == {"encoder", "posterior"}


def test_classes_reach_decoder_and_discriminator():
    model, batch = build(10, judge=partial(JUDGE, num_classes=10), posterior=DiagonalNormal), DIGITS().examples(4)
    other = batch | {"y": (batch["y"] + 1) % 10}
    for loss in (model.reconstruction_loss, model.discriminator_loss, model.encoder_loss):
        found = []
        for each in (batch, batch, other):
            torch.manual_seed(0)
            found.append(loss(each)[0])
        assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("num_classes", [None, 10])
def test_samples_depend_on_their_seeds_alone(num_classes):
    check_sampling(build(num_classes), None if num_classes is None else torch.zeros(6, dtype=torch.int64))


def test_held_out_reconstructions_are_reported(make_trainer):
    model, data = build(), DIGITS()
    (found,) = make_trainer(limit_val_batches=None).validate(model, data, verbose=False)
    rows = data.split("val")
    x = data.on_after_batch_transfer(rows[torch.arange(len(rows))], 0)["x"]
    expected = squared_error(x.double(), model.double().decoder(model.encode(x.double())).detach().flatten(1))
    assert found == {"val_reconstruction": pytest.approx(-float(expected), rel=1e-5)}


def test_it_learns_and_its_codes_become_the_prior(make_trainer):
    model = build(optimizer=ADAM, width=48, judge=partial(JUDGE, width=32))
    before = error_of(model)
    make_trainer(max_steps=400).fit(model, DIGITS(batch_size=32))
    assert error_of(model) < 0.5 * before
    z = model.encode(DIGITS().examples(512)["x"])
    assert (z.mean(0).abs() < 0.5).all()
    assert ((z.std(0) - 1).abs() < 0.5).all()


@pytest.mark.parametrize("prior", [partial(NormalMixture, num_components=4), RingMixture])
def test_a_prior_with_parameters_is_a_target_that_stays(prior, make_trainer):
    model = build(prior=prior, optimizer=ADAM)
    before = copy.deepcopy(model.prior)
    make_trainer(max_steps=3).fit(model, DIGITS())
    assert not any(p.requires_grad for p in model.prior.parameters())
    assert not model.train().prior.training
    assert model.decoder.training
    for name, tensor in model.prior.state_dict().items():
        assert torch.equal(tensor, before.state_dict()[name])
    drawn = model.prior_codes(4000)
    assert drawn.shape == (4000, 3)
    expected = before().mean
    error = drawn.std(0) / 4000**0.5
    assert ((drawn.mean(0) - expected).abs() < 4.5 * error).all()


def informed(**options):
    judge = partial(JUDGE, num_classes=10, width=32)
    return build(10, judge=judge, label_informed=True, **{"prior": RingMixture} | options)


def test_each_class_has_a_component_of_its_own():
    model, y = informed(), torch.arange(10).repeat_interleave(400)
    seeds = sample_seeds(0, torch.arange(len(y)))
    for drawn in (model.prior_codes(len(y), y), model.draw_latents(Noise(seeds), y)):
        means = drawn.unflatten(0, (10, 400)).mean(1)
        assert ((means - model.prior.means).abs() < 5 * model.prior.scales / 20).all()
    check_sampling(model, torch.arange(6))
    with pytest.raises(UserError, match="label_informed is true"):
        build(10, prior=RingMixture, label_informed=True)  # its discriminator is not told of classes


def test_codes_of_a_class_move_to_its_component(make_trainer):
    adam = partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.9))
    model = informed(optimizer=adam, width=48, prior=partial(RingMixture, radius=2.0, scale=0.7))

    def at_home():
        batch, means = DIGITS().examples(256), model.prior.means
        nearest = torch.cdist(model.encode(batch["x"]), means).argmin(1)
        return float((nearest == batch["y"]).float().mean())

    assert at_home() < 0.25
    make_trainer(max_steps=400).fit(model, DIGITS(batch_size=32))
    assert at_home() > 0.4


def test_samples_may_have_the_noise_of_the_likelihood():
    seeds = sample_seeds(0, torch.arange(50))
    plain, noisy = (build(likelihood=Gaussian(0.1), sample_noise=s).sample(50, seeds=seeds) for s in (False, True))
    inside = plain.abs() < 0.5  # where nothing is clamped
    assert (noisy - plain)[inside].std().item() == pytest.approx(0.1, rel=0.1)


# -------------------------------------------------------------------- what is refused


class Sampleless(VariationalLayer):
    """A prior with a density and no more."""

    def forward(self, h=None):
        class Density(Independent):
            def rsample(self, sample_shape=()):
                raise NotImplementedError

            sample = rsample

        return Density(Normal(torch.zeros(self.latent_dim), 1.0), 1)


def test_a_prior_without_a_sampler_is_refused(make_trainer):
    with pytest.raises(UserError, match="prior is Sampleless, which cannot be sampled") as error:
        make_trainer(max_steps=1).fit(build(prior=Sampleless), DIGITS())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prior": partial(VampPrior, sample_shape=[1, 8, 8])}, "prior is VampPrior, which moves with the encoder"),
        ({"label_informed": True}, "label_informed is true, but the prior StandardNormal has no components"),
        ({"label_informed": True, "prior": RingMixture}, "prior RingMixture has 10 components"),
        ({"judge": partial(JUDGE, num_classes=10)}, "discriminator is 10 but the decoder's is None"),
        ({"prior": lambda dim, features: StandardNormal(dim + 1)}, "are 4 numbers"),
        ({"num_critic_steps": 0}, "num_critic_steps is 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        build(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"judge": lambda dim: DCGANDiscriminator(8, 1, 4)}, "cannot read codes of 3 numbers"),
        ({"judge": lambda dim: Deaf()}, "scores of shape"),
        ({"likelihood": Bernoulli()}, "Bernoulli needs binary data"),
        ({"num_classes": 7}, "10 classes"),
    ],
)
def test_data_that_do_not_fit_are_refused(options, words, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(max_steps=1).fit(build(**options), DIGITS())
