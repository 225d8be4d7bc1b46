"""`DensityBaseline` with a trainer: steps, epochs, resuming, and what it refuses."""

from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from lightning_gen.callbacks import LastCheckpoint
from lightning_gen.data import Checkerboard2D, Digits, Ring2D, Thresholded
from lightning_gen.densities import (
    BernoulliPixels,
    DiagonalCovariance,
    DirichletCategorical,
    ExpectationMaximisation,
    FactorAnalysis,
    GradientDescent,
    NormalDensity,
    NormalMixtureDensity,
    UniformBox,
    UniformLevels,
)
from lightning_gen.dequantisation import UniformDequantisation
from lightning_gen.errors import UserError
from lightning_gen.families import DensityBaseline

ADAM = partial(torch.optim.Adam, lr=0.03)
GRADIENT = partial(GradientDescent, ADAM)
POINTS = partial(Ring2D, num_samples=26, num_val=8, radius=1.0, std=0.1)
MIXTURE = partial(NormalMixtureDensity, num_components=3)
DIGITS = partial(Digits, image_size=8)


def baseline(density=MIXTURE, shape=(2,), seed=0, **options):
    torch.manual_seed(seed)
    return DensityBaseline(list(shape), density, **options)


def images(density, **options):
    return baseline(density, (1, 8, 8), **options)


def binary(**options):
    return Thresholded(DIGITS(), **options)


def parameters(model):
    return {name: p.detach().clone() for name, p in model.density.named_parameters()}


def close(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], **tolerance)


# ---------------------------------------------------------------- sums over an epoch


def all_of(data, split="train"):
    rows = data.split(split)
    batch = data.on_after_batch_transfer(rows[torch.arange(len(rows))], 0)
    return batch["x"], batch.get("y")


@pytest.mark.parametrize("batch_size", [64, 1438])
def test_one_epoch_is_the_mean_and_the_covariance_of_all_samples(batch_size, make_trainer):
    model, data = images(partial(NormalDensity, prior_count=0.5)), DIGITS(batch_size=batch_size)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(model, data)
    assert trainer.global_step == len(trainer.train_dataloader)
    x = all_of(data)[0].flatten(1).double().numpy()
    np.testing.assert_allclose(model.density.means[0].detach(), x.mean(0), atol=1e-6)
    cholesky = model.density.covariance.cholesky[0].detach()
    s = np.cov(x.T, bias=True)
    psi = np.diag(np.maximum(np.diag(s), 1e-6))
    np.testing.assert_allclose(cholesky @ cholesky.T, (len(x) * s + psi / 2) / (len(x) + 0.5), atol=1e-6)


def test_counts_of_naive_bayes_are_those_of_all_samples(make_trainer):
    model, data = images(partial(BernoulliPixels, pseudocount=2.0), num_classes=10), binary(batch_size=100)
    make_trainer(max_epochs=1).fit(model, data)
    x, y = all_of(data)
    white = torch.stack([(x[y == c] > 0).sum(0).flatten() for c in range(10)])
    wanted = (white + 2) / (torch.bincount(y)[:, None] + 4)
    torch.testing.assert_close(model.density.logits.softmax(1)[:, 1], wanted)


@pytest.mark.parametrize("covariance", [DiagonalCovariance, partial(FactorAnalysis, rank=1)])
def test_batches_do_not_change_what_comes_out(covariance, make_trainer):
    found, losses = [], []
    for batch_size in (4, 13, 26):
        model = baseline(partial(MIXTURE, covariance=covariance))
        make_trainer(max_epochs=4).fit(model, POINTS(batch_size=batch_size))
        found.append(parameters(model))
        losses.append(float(model.log_p(all_of(POINTS())[0], None).mean().detach()))
    close(found[1], found[0], rtol=1e-5, atol=1e-5)
    close(found[2], found[0], rtol=1e-5, atol=1e-5)
    assert losses[0] > -2.0  # of one normal distribution −2.1


def test_nothing_is_added_where_the_trainer_cuts_epochs_short(make_trainer):
    counts = []

    class Spy(Callback):
        def on_train_batch_start(self, trainer, model, batch, batch_idx):
            counts.append(float(model.estimator.sums[0]))

    model, data = baseline(NormalDensity), POINTS(batch_size=4)
    make_trainer(Spy(), max_epochs=2, limit_train_batches=3).fit(model, data)
    assert counts == [0.0, 4.0, 8.0] * 2
    assert float(model.estimator.epochs.detach()) == 2


def test_steps_are_batches(make_trainer, tmp_path):
    model, seen = baseline(), []

    class Spy(Callback):
        def on_train_batch_end(self, trainer, model, outputs, *_):
            seen.append((trainer.global_step, float(outputs["loss"])))

    trainer = make_trainer(Spy(), LastCheckpoint(every_n_train_steps=3), max_steps=8, log_every_n_steps=2)
    trainer.fit(model, POINTS(batch_size=8))
    assert [step for step, _ in seen] == list(range(1, 9))
    assert seen[0][1] > seen[-1][1]
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8
    assert float(trainer.logged_metrics["loss"]) == pytest.approx(seen[-1][1], rel=1e-6)
    assert float(model.estimator.epochs.detach()) == 2


@pytest.mark.parametrize("killed", [2, 3, 4, 6])  # in the middle of epochs of three steps, and at their ends
@pytest.mark.parametrize("estimator", [ExpectationMaximisation, GRADIENT])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(estimator, killed, make_trainer, tmp_path):
    class Kill(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == killed:
                raise ZeroDivisionError

    def run(seed, *callbacks, ckpt_path=None):
        model = baseline(seed=seed, estimator=estimator())
        make_trainer(*callbacks, max_steps=9).fit(model, POINTS(batch_size=8), ckpt_path=ckpt_path)
        return model

    whole = run(0)
    with pytest.raises(ZeroDivisionError):
        run(0, LastCheckpoint(every_n_train_steps=killed), Kill())
    resumed = run(1, ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_steps_do_not_make_the_training_set_less_likely(make_trainer):
    losses = []

    class Spy(Callback):
        def on_train_batch_end(self, trainer, model, outputs, *_):
            losses.append(float(outputs["loss"]))

    data = partial(Ring2D, num_samples=200, num_val=8, radius=1.0, std=0.2)
    model = baseline(partial(NormalMixtureDensity, num_components=6, prior_count=0.0))
    make_trainer(Spy(), max_epochs=15).fit(model, data(batch_size=200))
    assert np.diff(losses).max() < 1e-6
    assert losses[0] - losses[-1] > 0.01


# ---------------------------------------------------------------- gradients


def test_gradients_reach_a_mixture_as_likely_as_steps_do(make_trainer):
    data, density = partial(Ring2D, num_samples=64, num_val=8, std=0.3), partial(MIXTURE, prior_count=0.0)
    x = all_of(data())[0]
    scores = []
    for estimator, epochs in ((ExpectationMaximisation(), 80), (GRADIENT(), 250)):
        model = baseline(density, estimator=estimator)
        trainer = make_trainer(max_epochs=epochs)
        trainer.fit(model, data(batch_size=64))
        assert trainer.global_step == epochs
        scores.append(float(model.log_p(x, None).mean().detach()))
    assert scores[1] == pytest.approx(scores[0], abs=5e-3)


# ---------------------------------------------------------------- numbers about data


def test_a_bound_of_dequantised_digits(make_trainer):
    options = {"dequantisation": UniformDequantisation(17), "estimator": ExpectationMaximisation(num_draws=2)}
    model = images(partial(NormalDensity, covariance=DiagonalCovariance), **options)
    trainer = make_trainer(max_epochs=1, limit_val_batches=1.0)
    trainer.fit(model, DIGITS(batch_size=719))
    bits = float(trainer.callback_metrics["val_bits_per_dim"])
    x = (all_of(DIGITS())[0] + 1) * 8  # of independent entries, with noise of a variance of 1/12 beside them
    s = (x.double().flatten(1).var(0, unbiased=False) + 1 / 12) * (2 / 17) ** 2
    wanted = float((0.5 * (2 * torch.pi * torch.e * s).log2()).mean()) + np.log2(17 / 2)
    assert bits == pytest.approx(wanted, abs=0.05)
    samples = model.sample(50, seeds=torch.arange(50))
    model.dequantisation.check(samples)
    assert model.discrete
    assert not model.exact_likelihood


def test_likelihoods_of_discrete_values_are_exact(make_trainer):
    model = images(partial(DirichletCategorical, levels=17), num_classes=10)
    trainer = make_trainer(max_epochs=1, limit_val_batches=1.0)
    trainer.fit(model, DIGITS(batch_size=719))
    x, y = all_of(DIGITS(), "val")
    assert float(trainer.callback_metrics["val_nats"]) == pytest.approx(-float(model.log_prob(x, y).mean()), rel=1e-6)
    assert model.discrete
    assert model.exact_likelihood
    with pytest.raises(UserError, match="needs y"):
        model.log_prob(x)


def test_every_combination_of_attributes_has_its_density():
    model = baseline(NormalDensity, num_classes=3, attributes=["a", "b", "c"])
    assert model.density.num_classes == 8
    y = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert model.classes_of(y).tolist() == [0, 1, 6]
    assert model.sample(3, y).shape == (3, 2)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: images(UniformLevels, dequantisation=UniformDequantisation(17)), "leave it out"),
        (lambda: images(UniformLevels, estimator=GRADIENT()), "cannot be estimated by gradients"),
        (lambda: baseline(num_classes=11, attributes=[*"abcdefghijk"]), "10 at most"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_what_is_learnt_by_gradients_is_refused_beside_sums():
    class Learnt(UniformDequantisation):
        def __init__(self):
            super().__init__(17)
            self.weight = torch.nn.Parameter(torch.zeros(()))

    with pytest.raises(UserError, match="learnt by gradients"):
        images(NormalDensity, dequantisation=Learnt())
    images(NormalDensity, dequantisation=Learnt(), estimator=GRADIENT())


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (partial(images, partial(UniformLevels, levels=16)), DIGITS, "16 levels"),
        (partial(images, partial(DirichletCategorical, levels=16)), DIGITS, "16 levels"),
        (partial(images, BernoulliPixels), DIGITS, "Thresholded"),
        (partial(images, NormalDensity, dequantisation=UniformDequantisation(16)), DIGITS, "16 levels"),
        (partial(baseline, partial(UniformBox, low=-3.0, high=4.0)), Checkerboard2D, "widen"),
        (partial(baseline, NormalDensity), DIGITS, "sample_shape"),
        (partial(images, BernoulliPixels, num_classes=4), binary, "num_classes"),
    ],
)
def test_data_that_do_not_fit_are_refused_before_training(model, data, words, make_trainer):
    with pytest.raises(UserError, match=words):
        make_trainer(max_steps=1).fit(model(), data())


def test_scaled_gradients_are_refused_where_there_are_none(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=1)
    model = baseline()
    model.trainer = trainer
    monkeypatch.setattr(type(trainer), "precision", "16-mixed")
    with pytest.raises(UserError, match="16-mixed"):
        model.setup("fit")
