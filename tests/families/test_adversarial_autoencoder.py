from functools import partial

import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, JUDGE, SGD, ByHand, Deaf, check_sampling, networks, one_step, squared_error
from autoencoder_fakes import pixel_error as error_of
from torch.distributions import Independent, Normal
from torch.nn.functional import softplus

from lightning_gen.distributions import DiagonalNormal, StandardNormal, VariationalLayer
from lightning_gen.errors import UserError
from lightning_gen.families import AdversarialAutoencoder
from lightning_gen.losses import NonSaturating, RelativisticPairing
from lightning_gen.losses.likelihoods import Bernoulli, Gaussian
from lightning_gen.networks import DCGANDiscriminator


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
        ({"prior": DiagonalNormal}, "prior is DiagonalNormal, whose parameters"),
        ({"judge": partial(JUDGE, num_classes=10)}, "discriminator is 10 but the decoder's is None"),
        ({"prior": lambda dim, features: StandardNormal(dim + 1)}, "have 4 numbers"),
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
