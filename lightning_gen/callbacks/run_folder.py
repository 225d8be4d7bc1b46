"""Where a run writes."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The run's own folder, the same on every rank; to be called on all of them, since it is broadcast."""
    return Path(trainer.log_dir or trainer.default_root_dir)
