"""FID, IS and their relatives while training; the same code measures checkpoints afterwards."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_gen.callbacks.records import record
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.callbacks.validations import AtValidations
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.metrics import FeatureExtractor, GenerativeMetric, measure, protocols
from lightning_gen.model import GenerativeModel

MetricFactory = Callable[[FeatureExtractor], GenerativeMetric]


def cache_folder(root: str | Path) -> str:
    """Where runs below `root` keep statistics of their data: `$LIGHTNING_GEN_CACHE`, or `cache` in it."""
    return os.environ.get("LIGHTNING_GEN_CACHE") or str(Path(root) / "cache")


class Evaluation(AtValidations):
    """Measures samples at validations and tests.

    Values are logged under the metrics' names (`fid_digits`, never a bare `fid`), so that `ModelCheckpoint` can monitor
    them, and collected with their protocol in `metrics.csv` and `metrics.json` in the run's folder.

    Args:
        extractor: turns samples into features; shared by all metrics.
        metrics: metrics to make on it.
        num_samples: samples drawn, over all processes together.
        batch_size: samples drawn at a time in each process.
        every_n_validations: validations from one measurement to the next, ≥ 1.
        seed: names the set of samples; sample *i* is the same for any batch size and number of processes.
        split: split of the data that is the reference.
        num_reference: number of reference samples, the first of the split; None for all.
        cache_dir: where reference statistics are kept; None for `$LIGHTNING_GEN_CACHE` or, in a run, for `cache` in its
            `default_root_dir`.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        metrics: list[MetricFactory],
        num_samples: int = 10_000,
        batch_size: int = 256,
        every_n_validations: int = 1,
        seed: int = 0,
        split: str = "train",
        num_reference: int | None = None,
        cache_dir: str | None = None,
    ) -> None:
        for key, value in (("batch_size", batch_size), ("num_reference", num_reference)):
            if value is not None and value < 1:
                raise UserError(f"Evaluation.{key} is {value}: it must be at least 1")
        super().__init__(every_n_validations)
        self.extractor = extractor
        self.metrics = [make(extractor) for make in metrics]
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.split = split
        self.num_reference = num_reference
        self.cache_dir = cache_dir
        self._prepared = False

    # ---------------------------------------------------------------- measuring

    def prepare(self, data: DataModule, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        """Load the extractor and the reference statistics, once; every process must call it.

        Raises:
            UserError: if weights are missing, the split does not exist, or there are too few samples for a metric.
        """
        if self._prepared:
            return
        for metric in self.metrics:
            metric.check(self.num_samples)
        self.extractor.prepare()
        self.extractor.to(device)
        needs = frozenset().union(*(metric.needs for metric in self.metrics))
        for metric in self.metrics:
            metric.to(device)
            metric.fit_reference(
                data,
                split=self.split,
                num=self.num_reference,
                cache_dir=self.cache_dir,
                rank=rank,
                world_size=world_size,
                device=device,
                batch_size=self.batch_size,
                needs=needs,  # of all of them, so that the data are read once
            )
        self._prepared = True

    def measure(self, model: GenerativeModel, data: DataModule, rank: int = 0, world_size: int = 1) -> dict[str, float]:
        """Measure the model with whatever weights it holds now; every process must call it.

        Args:
            model: what is sampled, on the device where everything happens.
            data: gives the reference and the stored form of samples.
            rank: of this process.
            world_size: number of processes.

        Returns:
            Values by metric name, the same on every process.
        """
        self.prepare(data, model.device, rank, world_size)
        return measure(
            lambda seeds: model.draw(len(seeds), seeds=seeds),
            self.metrics,
            num_samples=self.num_samples,
            batch_size=self.batch_size,
            seed=self.seed,
            device=model.device,
            rank=rank,
            world_size=world_size,
            quantise=data.modality.quantise,
        )

    def protocol(self) -> dict[str, Any]:
        """How each value was made, by metric name; plain values for JSON."""
        return protocols(self.metrics, num_samples=self.num_samples, seed=self.seed)

    # ---------------------------------------------------------------- while training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fail early: extractor, data and numbers are checked before anything is trained."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, DataModule):
            raise UserError("Evaluation needs a lightning_gen.data.DataModule for its reference: set data")
        if self.split not in data.splits:
            raise UserError(
                f"Evaluation.split is {self.split!r}, which data does not have: use any of {', '.join(data.splits)}"
            )
        others = [c for c in trainer.callbacks if isinstance(c, Evaluation) and c is not self]  # type: ignore[attr-defined]
        if twice := {m.name for m in self.metrics} & {m.name for other in others for m in other.metrics}:
            raise UserError(f"two Evaluations measure {', '.join(sorted(twice))}: leave it to one of them")
        for metric in self.metrics:
            metric.check(self.num_samples)
        self.extractor.prepare()
        self.cache_dir = self.cache_dir or cache_folder(trainer.default_root_dir)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the reference now, so that whatever is wrong with it ends the run at its start."""
        self.prepare(trainer.datamodule, pl_module.device, trainer.global_rank, trainer.world_size)  # type: ignore[attr-defined]

    @property
    def state_key(self) -> str:
        """Several evaluations may go on in one run."""
        names = ",".join(metric.name for metric in self.metrics)
        return f"Evaluation[{names},{self.num_samples},{self.seed}]"

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, log and write."""
        self._run(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, log and write."""
        self._run(trainer, pl_module)

    def _run(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, GenerativeModel)
        data = trainer.datamodule  # type: ignore[attr-defined]
        values = self.measure(pl_module, data, trainer.global_rank, trainer.world_size)
        pl_module.log_dict(values, prog_bar=True, rank_zero_only=False)
        folder = run_folder(trainer)
        if trainer.is_global_zero and trainer.state.fn == "fit":
            record(folder, trainer.global_step, values, self.protocol())
