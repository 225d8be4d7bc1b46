"""A run whose loss is no number stops, and what it saved stays good."""

import pytest
import torch
from lightning.pytorch import Callback

from lightning_gen.callbacks import EMA, FiniteGuard, LastCheckpoint
from lightning_gen.checkpoints import read_checkpoint
from lightning_gen.errors import UserError
from lightning_gen.losses import NonSaturating


class BreaksAt(NonSaturating):
    """Its generator's loss is `value` at one step."""

    def __init__(self, step, value=float("nan")):
        self.step, self.value, self.count = step, value, 0

    def generator(self, fake):
        self.count += 1
        loss = super().generator(fake)
        return loss * self.value if self.count == self.step else loss


def finite(checkpoint):
    return all(t.isfinite().all() for t in checkpoint["state_dict"].values())


@pytest.fixture
def last(tmp_path):
    return tmp_path / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_the_sentence_names_term_and_step(value, word, make_gan, make_ring, make_trainer):
    trainer = make_trainer(FiniteGuard(), max_steps=9, log_every_n_steps=1)
    with pytest.raises(UserError, match=f"g_loss is {word} at step 4;.*ckpt_path") as error:
        trainer.fit(make_gan(loss=BreaksAt(4, value)), make_ring())
    assert trainer.global_step == 4
    assert "\n" not in str(error.value)


def test_the_first_bad_step_is_named_though_steps_are_looked_at_together(make_gan, make_ring, make_trainer):
    trainer = make_trainer(FiniteGuard(), max_steps=20, log_every_n_steps=10)
    with pytest.raises(UserError, match="g_loss is nan at step 4;"):
        trainer.fit(make_gan(loss=BreaksAt(4)), make_ring())
    assert trainer.global_step == 10


def test_the_last_good_checkpoint_stays(make_gan, make_ring, make_trainer, last):
    trainer = make_trainer(EMA(), FiniteGuard(), LastCheckpoint(3), max_steps=20, log_every_n_steps=100)
    with pytest.raises(UserError, match="at step 4;"):
        trainer.fit(make_gan(loss=BreaksAt(4)), make_ring())
    checkpoint = read_checkpoint(last)
    assert checkpoint["global_step"] == 3
    assert finite(checkpoint)
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


def test_a_break_at_the_step_of_a_save_is_not_saved(make_gan, make_ring, make_trainer, last):
    trainer = make_trainer(FiniteGuard(), LastCheckpoint(2), max_steps=20, log_every_n_steps=100)
    with pytest.raises(UserError, match="at step 4;"):
        trainer.fit(make_gan(loss=BreaksAt(4)), make_ring())
    assert read_checkpoint(last)["global_step"] == 2


def test_a_break_in_the_last_steps_is_told(make_gan, make_ring, make_trainer):
    with pytest.raises(UserError, match="g_loss is nan at step 5;"):
        make_trainer(FiniteGuard(), max_steps=5, log_every_n_steps=100).fit(make_gan(loss=BreaksAt(5)), make_ring())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(value, make_gan, make_ring, make_trainer, last):
    class Break(Callback):
        def on_train_batch_end(self, trainer, model, *_):
            if trainer.global_step == 4:
                with torch.no_grad():
                    model.generator.layers[2].bias[0] = value

    # the next step's losses would show it, the save comes before
    trainer = make_trainer(FiniteGuard(), Break(), LastCheckpoint(2), max_steps=6, log_every_n_steps=100)
    with pytest.raises(UserError, match=r"weights generator.layers.2.bias are not finite at step 4;"):
        trainer.fit(make_gan(), make_ring())
    assert read_checkpoint(last)["global_step"] == 2


def test_a_broken_model_is_not_validated(make_gan, make_ring, make_trainer):
    class Never(Callback):
        def on_validation_epoch_end(self, trainer, model):
            raise AssertionError("validated")

    options = {
        "limit_val_batches": 1,
        "val_check_interval": 4,
        "check_val_every_n_epoch": None,
        "log_every_n_steps": 100,
    }
    with pytest.raises(UserError, match="at step 4;"):
        make_trainer(FiniteGuard(), Never(), max_steps=9, **options).fit(make_gan(loss=BreaksAt(4)), make_ring())


def test_disabled_it_lets_a_run_go_on(make_gan, make_ring, make_trainer, last):
    trainer = make_trainer(FiniteGuard(enabled=False), LastCheckpoint(2), max_steps=6, log_every_n_steps=1)
    trainer.fit(make_gan(loss=BreaksAt(4)), make_ring())
    assert trainer.global_step == 6
    assert not finite(read_checkpoint(last))


def test_a_sound_run_is_left_alone(make_gan, make_ring, make_trainer, last):
    guard = FiniteGuard()
    trainer = make_trainer(guard, LastCheckpoint(2), max_steps=6, log_every_n_steps=4)
    trainer.fit(make_gan(), make_ring())
    assert trainer.global_step == read_checkpoint(last)["global_step"] == 6
    assert not guard._seen
