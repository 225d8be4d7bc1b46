"""What happens beside training: averaging, measuring, drawing, saving."""

from lightning_gen.callbacks.checkpoint import LastCheckpoint
from lightning_gen.callbacks.ema import EMA
from lightning_gen.callbacks.evaluation import Evaluation
from lightning_gen.callbacks.grid import SampleGrid
from lightning_gen.callbacks.guard import FiniteGuard
from lightning_gen.callbacks.progress import StepProgressBar, Throughput
from lightning_gen.callbacks.writer import SampleWriter

__all__ = [
    "EMA",
    "Evaluation",
    "FiniteGuard",
    "LastCheckpoint",
    "SampleGrid",
    "SampleWriter",
    "StepProgressBar",
    "Throughput",
]
