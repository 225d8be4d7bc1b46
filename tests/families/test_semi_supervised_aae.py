from functools import partial

import pytest
import torch
from autoencoder_fakes import ADAM, DIGITS, JUDGE, SGD, ByHand, Deaf, check_sampling, networks, one_step, squared_error
from autoencoder_fakes import pixel_error as error_of
from torch.nn.functional import one_hot, softplus

from lightning_gen.data import FewLabels
from lightning_gen.errors import UserError
from lightning_gen.families import SemiSupervisedAdversarialAutoencoder
from lightning_gen.losses import NonSaturating, RelativisticPairing
from lightning_gen.losses.likelihoods import Gaussian
from lightning_gen.noise import sample_seeds

OPTIMIZERS = ("autoencoder_optimizer", "discriminator_optimizer", "encoder_optimizer", "classifier_optimizer")


def build(num_classes=10, optimizer=SGD, width=7, loss=None, **options):
    judges = {"class_discriminator": JUDGE, "style_discriminator": JUDGE}
    parts = {"likelihood": Gaussian(), "loss": loss or NonSaturating()} | judges | dict.fromkeys(OPTIMIZERS, optimizer)
    return SemiSupervisedAdversarialAutoencoder(*networks(num_classes, width), **parts | options)


def few(batch_size=4, **options):
    return FewLabels(DIGITS(), num_labels=100, batch_size=batch_size, **options)


def logits_of(hand, x):
    return hand.linear("classifier", hand.features(x))


def reconstruct(hand, x):
    return hand.decode(torch.cat((hand.code(x), logits_of(hand, x).softmax(1)), dim=1))


def test_a_step_has_the_four_phases_of_the_paper(make_trainer):
    model = build()
    before, batch, terms = one_step(model, few(), make_trainer)
    hand, x, labels = ByHand(before), batch["x"], batch["labelled_y"]
    chosen = logits_of(hand, batch["labelled_x"]).log_softmax(1)[torch.arange(4), labels]
    torch.testing.assert_close(terms["classifier_loss"], -chosen.mean().detach())
    hand.update(-chosen.mean(), "encoder.", "classifier.")
    loss = squared_error(x, reconstruct(hand, x))
    hand.update(loss, "encoder.", "classifier.", "posterior.", "decoder.")
    torch.testing.assert_close(terms["reconstruction"], -loss.detach())
    drawn = one_hot(torch.randint(10, (4,)), 10).double(), torch.randn(4, 3, dtype=torch.float64)
    names = "class_discriminator", "style_discriminator"

    def fakes():
        return logits_of(hand, x).softmax(1), hand.code(x)

    losses = [
        (softplus(-hand.judge(real, name)[0]) + softplus(hand.judge(fake, name)[0])).mean()
        for real, fake, name in zip(drawn, fakes(), names, strict=True)
    ]
    torch.testing.assert_close(terms["d_classes"], losses[0].detach())
    torch.testing.assert_close(terms["d_style"], losses[1].detach())
    hand.update(sum(losses), *names)
    losses = [softplus(-hand.judge(fake, name)[0]).mean() for fake, name in zip(fakes(), names, strict=True)]
    torch.testing.assert_close(terms["g_loss"], sum(losses).detach())
    hand.update(sum(losses), "encoder.", "classifier.", "posterior.")
    hand.check(model)


def test_samples_depend_on_their_seeds_alone():
    model = build()
    check_sampling(model, torch.arange(6))
    x = DIGITS().examples(6)["x"]
    expected = model.decode(model.encode(x), model.logits_of(x).softmax(1).detach())
    torch.testing.assert_close(model.reconstruct(x), expected)
    z = model.encode(x)
    assert not torch.allclose(model.decode(z, torch.arange(6)), model.decode(z, torch.arange(6) + 1))


def test_samples_may_have_the_noise_of_the_likelihood():
    options = {"likelihood": Gaussian(0.1)}
    seeds = sample_seeds(0, torch.arange(50))
    plain, noisy = (
        build(sample_noise=s, **options).sample(50, torch.arange(50) % 10, seeds=seeds) for s in (False, True)
    )
    assert (noisy - plain)[plain.abs() < 0.5].std().item() == pytest.approx(0.1, rel=0.1)


def test_a_relativistic_loss_gets_its_draws():
    model, batch = build(loss=RelativisticPairing()), few().examples(4)
    assert model.encoder_loss(batch)[0].isfinite()


def test_it_learns_to_classify(make_trainer):
    model, trainer = build(optimizer=ADAM, width=48), make_trainer(max_steps=150, limit_val_batches=None)
    before = error_of(model)
    (start,) = trainer.validate(model, few(32), verbose=False)
    trainer.fit(model, few(32))
    (end,) = trainer.validate(model, few(32), verbose=False)
    assert start["val_error"] > 0.6
    assert end["val_error"] < 0.3
    assert end["val_reconstruction"] > start["val_reconstruction"]
    assert error_of(model) < 0.6 * before
    wrong = []
    for x in few().val_dataloader():
        rows = few().on_after_batch_transfer(x, 0)
        wrong.append(model.logits_of(rows["x"]).argmax(1) != rows["y"])
    assert end["val_error"] == pytest.approx(float(torch.cat(wrong).float().mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ({}, DIGITS, "wrap it in FewLabels"),
        ({"num_classes": 7}, few, "10 classes"),
        ({"class_discriminator": lambda dim: Deaf()}, few, "class_discriminator is Deaf"),
        ({"style_discriminator": lambda dim: JUDGE(dim + 1)}, few, "style_discriminator .* codes of 3 numbers"),
    ],
)
def test_data_that_do_not_fit_are_refused(options, data, words, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(max_steps=1).fit(build(**options), data())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": None}, "decoder has no num_classes"),
        ({"style_discriminator": partial(JUDGE, num_classes=10)}, "style_discriminator is 10"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        build(**options)
