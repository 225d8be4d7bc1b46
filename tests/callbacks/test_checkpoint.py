"""Checkpoints are whole or not there, and the last one is the last."""

import os
import pickle
import stat

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_gen.callbacks import Evaluation, LastCheckpoint
from lightning_gen.checkpoints import AtomicCheckpointIO, read_checkpoint
from lightning_gen.errors import UserError
from lightning_gen.metrics import FID, Raw

GOOD = {"state_dict": {"w": torch.arange(3.0)}, "global_step": 1}


def half_then(error):
    """A `torch.save` that writes the beginning of a file and fails."""

    def save(checkpoint, file):
        file.write(b"PK\x03\x04 half a checkpoint")
        raise error

    return save


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("PytorchStreamWriter failed")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(error, tmp_path, monkeypatch):
    path, io = tmp_path / "a.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(GOOD, path)
    monkeypatch.setattr(torch, "save", half_then(error))
    with pytest.raises(UserError, match=r"a\.ckpt"):
        io.save_checkpoint(GOOD | {"global_step": 2}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]
    assert read_checkpoint(path)["global_step"] == 1


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), pickle.PicklingError("a lambda")], ids=["interrupt", "pickling"]
)
def test_an_interrupted_write_does_so_too(error, tmp_path, monkeypatch):
    path, io = tmp_path / "a.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(GOOD, path)
    monkeypatch.setattr(torch, "save", half_then(error))
    with pytest.raises(type(error)):
        io.save_checkpoint(GOOD | {"global_step": 2}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]
    assert read_checkpoint(path)["global_step"] == 1


def test_a_write_replaces_the_old_file_and_makes_folders(tmp_path):
    path, io = tmp_path / "deep" / "er" / "a.ckpt", AtomicCheckpointIO()
    for step in (1, 2):
        io.save_checkpoint(GOOD | {"global_step": step}, path)
        assert read_checkpoint(path)["global_step"] == step
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_who_reads_the_old_file_reads_it_to_its_end(tmp_path):
    # a file written over in place would change under a reader, and a kill in between leave half of each
    path, io = tmp_path / "a.ckpt", AtomicCheckpointIO()
    io.save_checkpoint(GOOD, path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        io.save_checkpoint(GOOD | {"state_dict": {"w": torch.ones(1000)}}, path)
        assert reader.read() == before
    assert path.read_bytes() != before


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.ckpt.*default_root_dir"):
        AtomicCheckpointIO().save_checkpoint(GOOD, tmp_path / "file" / "a.ckpt")


def test_checkpoints_have_the_permissions_of_other_files(tmp_path):
    # mkstemp's files are their owner's alone: nobody else in the group could sample from them
    before = os.umask(0o022)
    try:
        AtomicCheckpointIO().save_checkpoint(GOOD, tmp_path / "a.ckpt")
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.ckpt", "plain")]
    assert modes[0] == modes[1] == 0o644


class Saves(Callback):
    """Notes the step of every save."""

    def __init__(self):
        self.steps = []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.steps.append(checkpoint["global_step"])


@pytest.mark.parametrize(
    ("every", "steps", "saved"), [(3, 7, [3, 6, 7]), (3, 6, [3, 6]), (100, 5, [5]), (1, 3, [1, 2, 3])]
)
def test_last_is_written_at_its_interval_and_at_the_end(
    every, steps, saved, make_gan, make_ring, make_trainer, tmp_path
):
    saves = Saves()
    make_trainer(saves, LastCheckpoint(every), max_steps=steps).fit(make_gan(), make_ring())
    assert saves.steps == saved
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == steps


def test_a_crash_leaves_the_last_one(make_gan, make_ring, make_trainer, tmp_path):
    class Crash(Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.global_step == 5:
                raise ZeroDivisionError

    trainer = make_trainer(Crash(), LastCheckpoint(2), max_steps=9, plugins=[AtomicCheckpointIO()])
    with pytest.raises(ZeroDivisionError):
        trainer.fit(make_gan(), make_ring())
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4


def test_a_trial_run_saves_nothing(make_gan, make_ring, make_trainer, tmp_path):
    make_trainer(LastCheckpoint(1), fast_dev_run=2).fit(make_gan(), make_ring())
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("every", [0, -5])
def test_an_interval_below_one_is_refused(every):
    with pytest.raises(UserError, match=f"every_n_train_steps is {every}"):
        LastCheckpoint(every)


class Killed(Exception):
    """Stands for SIGKILL: nothing may be written after it."""


class Kill(Callback):
    """Ends a run at a step, in the middle of the hook that is named."""

    def __init__(self, hook, step):
        def strike(trainer, *_):
            if trainer.global_step == step:
                raise Killed

        setattr(self, hook, strike)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("hook", "step"), [("on_validation_epoch_end", 6), ("on_train_batch_end", 7)])
def test_a_kill_around_a_validation_loses_nothing_of_it(hook, step, make_gan, make_ring, make_trainer, tmp_path):
    def fit(folder, *more, ckpt_path=None):
        evaluation = Evaluation(Raw(), [FID], num_samples=50, batch_size=16)
        best = ModelCheckpoint(folder / "checkpoints", monitor="fid_raw", save_top_k=1, filename="{step}")
        options = {"limit_val_batches": 1, "val_check_interval": 3, "check_val_every_n_epoch": None, "max_steps": 9}
        trainer = make_trainer(evaluation, *more, best, LastCheckpoint(3), default_root_dir=folder, **options)
        trainer.fit(make_gan(), make_ring(), ckpt_path=ckpt_path)
        states = read_checkpoint(folder / "checkpoints" / "last.ckpt")["callbacks"]
        files = sorted(path.name for path in (folder / "checkpoints").iterdir())
        return (folder / "metrics.csv").read_text(), files, evaluation.validations, best.best_model_score, len(states)

    whole = fit(tmp_path / "whole")
    with pytest.raises(Killed):
        fit(tmp_path / "killed", Kill(hook, step))
    assert whole[0].count("\n") == 4
    assert fit(tmp_path / "killed", ckpt_path=tmp_path / "killed" / "checkpoints" / "last.ckpt") == whole
