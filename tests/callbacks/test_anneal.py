"""Schedules of numbers."""

import math
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback

from lightning_gen.callbacks import EMA, Anneal, LastCheckpoint
from lightning_gen.errors import UserError
from lightning_gen.losses import R1


class Watch(Callback):
    """Notes numbers in the middle of each step."""

    def __init__(self, read):
        self.read, self.seen = read, []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.seen.append(self.read(trainer, pl_module))


def test_shapes():
    linear, cosine = Anneal("model.x", 1.0, 3.0, 4, "linear"), Anneal("model.x", 1.0, 3.0, 4)
    assert [linear.value(step) for step in (0, 1, 2, 4, 9)] == [1.0, 1.5, 2.0, 3.0, 3.0]
    exponential = Anneal("model.x", 1.0, 16.0, 4, "exponential")
    assert [exponential.value(step) for step in (0, 1, 2, 4, 9)] == pytest.approx([1.0, 2.0, 4.0, 16.0, 16.0])
    late = Anneal("model.x", 1.0, 3.0, 4, "linear", begin=10)
    assert [late.value(step) for step in (0, 10, 12, 14, 20)] == [1.0, 1.0, 2.0, 3.0, 3.0]
    expected = [3 + (1 - 3) * (1 + math.cos(math.pi * min(s / 4, 1))) / 2 for s in (0, 1, 2, 4, 9)]
    assert [cosine.value(step) for step in (0, 1, 2, 4, 9)] == pytest.approx(expected)


def test_a_penaltys_weight_an_optimisers_beta_and_an_average_follow(make_gan, make_ring, make_trainer):
    ema = EMA(half_life=1.0)
    watch = Watch(
        lambda trainer, gan: (
            gan.penalties[0].gamma,
            trainer.optimizers[1].param_groups[0]["betas"],
            trainer.optimizers[0].param_groups[0]["lr"],
            ema.half_life,
        )
    )
    make_trainer(
        Anneal("model.penalties.0.gamma", 8.0, 0.0, 2, "linear"),
        Anneal("optimizers.1.betas.1", 0.9, 0.99, 2, "linear"),
        Anneal("optimizers.0.lr", 1e-3, 0.0, 2, "linear"),
        Anneal("EMA.half_life", 0.0, 100.0, 2, "linear"),
        ema,
        watch,
        max_steps=4,
    ).fit(make_gan(penalties=[R1(1.0)]), make_ring())
    gammas, betas, rates, half_lives = zip(*watch.seen, strict=True)
    assert gammas == (8.0, 4.0, 0.0, 0.0)
    assert [b for _, b in betas] == pytest.approx([0.9, 0.945, 0.99, 0.99])
    assert {a for a, _ in betas} == {0.0}
    assert rates == pytest.approx((1e-3, 5e-4, 0.0, 0.0))
    assert half_lives == (0.0, 50.0, 100.0, 100.0)


def test_buffers_are_filled(make_gan, make_ring, make_trainer):
    gan = make_gan()
    gan.register_buffer("strength", torch.zeros(()))
    watch = Watch(lambda trainer, model: model.strength.item())
    make_trainer(Anneal("model.strength", 0.0, 1.0, 2, "linear"), watch, max_steps=3).fit(gan, make_ring())
    assert watch.seen == [0.0, 0.5, 1.0]


def test_a_resumed_run_goes_on_where_it_was(make_gan, make_ring, make_trainer, tmp_path):
    def anneal():
        return Anneal("optimizers.1.betas.1", 0.9, 0.99, 8, "linear")

    make_trainer(anneal(), LastCheckpoint(), max_steps=3).fit(make_gan(), make_ring())
    watch = Watch(lambda trainer, gan: trainer.optimizers[1].param_groups[0]["betas"][1])
    last = tmp_path / "checkpoints" / "last.ckpt"
    make_trainer(anneal(), watch, max_steps=5).fit(make_gan(), make_ring(), ckpt_path=last)
    assert watch.seen == pytest.approx([0.9 + 0.09 * 3 / 8, 0.9 + 0.09 * 4 / 8])


@pytest.mark.parametrize(
    "target",
    [
        "gamma",
        "model",
        "model.penalties.1.gamma",
        "model.penalties.0.strength",
        "model.penalties.0.name",
        "model.penalties.0.interval",
        "optimizers.2.lr",
        "optimizers.0.beta",
        "optimizers.0.betas",
        "EMA.half_life",
        "EMA.warmup",
    ],
)
def test_targets_that_are_no_numbers_are_refused(target, make_gan, make_ring, make_trainer):
    ema = EMA()
    with pytest.raises(UserError, match=r"Anneal.target is '.*model\.penalties\.0\.gamma"):
        make_trainer(Anneal(target, 0.0, 1.0, 2), ema, max_steps=1).fit(make_gan(penalties=[R1(1.0)]), make_ring())


def test_a_rate_has_one_schedule(make_gan, make_ring, make_trainer):
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=1)
    for target, refused in (("optimizers.1.lr", True), ("optimizers.0.lr", False)):
        trainer, gan = (
            make_trainer(Anneal(target, 1.0, 0.1, 2), max_steps=1),
            make_gan(discriminator_scheduler=schedule),
        )
        with pytest.raises(UserError, match="a scheduler of the model moves too") if refused else nullcontext():
            trainer.fit(gan, make_ring())


def test_steps_must_be_positive():
    with pytest.raises(UserError, match="steps is 0"):
        Anneal("model.x", 0.0, 1.0, 0)


def test_an_exponential_needs_positive_ends():
    with pytest.raises(UserError, match="both must be above 0"):
        Anneal("model.x", 1.0, 0.0, 3, "exponential")
