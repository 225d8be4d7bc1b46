"""How far and how fast."""

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers.logger import DummyLogger

from lightning_gen.callbacks import LastCheckpoint, StepProgressBar, Throughput


class Recorder(DummyLogger):
    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged.append(metrics)


def test_throughput_logs_positive_numbers(make_gan, make_ring, make_trainer):
    logger = Recorder()
    make_trainer(Throughput(), max_steps=6, log_every_n_steps=2, logger=logger).fit(make_gan(), make_ring())
    rows = [row for row in logger.logged if "samples_per_second" in row]
    assert len(rows) == 3
    for row in rows:
        assert row["samples_per_second"] > 0
        assert row["step_time"] > 0
        assert row["peak_memory"] > 10  # MiB: no Python with torch is smaller
        # 8 samples a step
        assert row["samples_per_second"] * row["step_time"] == pytest.approx(8, rel=1e-3)


def test_throughput_counts_all_samples_of_a_step(make_gan, make_ring, make_trainer):
    logger = Recorder()
    gan = make_gan(num_critic_steps=2, accumulate_grad_batches=2)
    make_trainer(Throughput(), max_steps=2, log_every_n_steps=2, logger=logger).fit(gan, make_ring())
    (row,) = (row for row in logger.logged if "samples_per_second" in row)
    assert row["samples_per_second"] * row["step_time"] == pytest.approx(32, rel=1e-3)


class Watch(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        bar = trainer.progress_bar_callback.train_progress_bar
        self.seen.append((bar.n, bar.total))


def test_the_bar_counts_steps_over_epochs(make_gan, make_ring, make_trainer, capsys):
    watch = Watch()
    trainer = make_trainer(StepProgressBar(refresh_rate=1), watch, max_steps=11, enable_progress_bar=True)
    trainer.fit(make_gan(num_critic_steps=5), make_ring())  # 4 steps an epoch
    assert watch.seen == [(step, 11) for step in range(1, 12)]


def test_the_bar_starts_where_a_resumed_run_does(make_gan, make_ring, make_trainer, tmp_path, capsys):
    watch = Watch()
    make_trainer(LastCheckpoint(), max_steps=3).fit(make_gan(), make_ring())
    trainer = make_trainer(StepProgressBar(refresh_rate=1), watch, max_steps=6, enable_progress_bar=True)
    trainer.fit(make_gan(), make_ring(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert watch.seen == [(step, 6) for step in (4, 5, 6)]


def test_the_bar_counts_batches_where_epochs_limit_a_run(make_gan, make_ring, make_trainer, capsys):
    watch = Watch()
    trainer = make_trainer(StepProgressBar(refresh_rate=1), watch, max_epochs=2, enable_progress_bar=True)
    trainer.fit(make_gan(num_critic_steps=5), make_ring())
    assert watch.seen == [(step, 4) for step in (1, 2, 3, 4)] * 2


def test_the_bar_shows_losses_without_the_version(make_gan, make_ring, make_trainer, capsys):
    trainer = make_trainer(StepProgressBar(refresh_rate=1), max_steps=2, enable_progress_bar=True, log_every_n_steps=1)
    trainer.fit(make_gan(), make_ring())
    shown = trainer.progress_bar_callback.get_metrics(trainer, trainer.lightning_module)
    assert shown.keys() >= {"g_loss", "d_loss"}
    assert "v_num" not in shown
