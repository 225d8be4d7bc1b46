"""What happens beside training: averaging, measuring, drawing, saving."""

from lightning_gen.callbacks.anneal import Anneal
from lightning_gen.callbacks.attention_maps import AttentionMaps
from lightning_gen.callbacks.checkpoint import LastCheckpoint
from lightning_gen.callbacks.ema import EMA
from lightning_gen.callbacks.evaluation import Evaluation
from lightning_gen.callbacks.freeze import FreezeD
from lightning_gen.callbacks.grid import SampleGrid
from lightning_gen.callbacks.guard import FiniteGuard
from lightning_gen.callbacks.held_out_record import HeldOutRecord
from lightning_gen.callbacks.progress import StepProgressBar, Throughput
from lightning_gen.callbacks.reconstructions import Reconstructions
from lightning_gen.callbacks.transfer import Transfer
from lightning_gen.callbacks.traversal import LatentTraversal
from lightning_gen.callbacks.walk import LatentWalk
from lightning_gen.callbacks.writer import SampleWriter

__all__ = [
    "EMA",
    "Anneal",
    "AttentionMaps",
    "Evaluation",
    "FiniteGuard",
    "FreezeD",
    "HeldOutRecord",
    "LastCheckpoint",
    "LatentTraversal",
    "LatentWalk",
    "Reconstructions",
    "SampleGrid",
    "SampleWriter",
    "StepProgressBar",
    "Throughput",
    "Transfer",
]
