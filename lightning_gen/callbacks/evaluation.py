"""FID, likelihoods and their relatives while training; the same code measures checkpoints afterwards."""

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
from lightning_gen.data.sample_files import SampleFiles, open_samples
from lightning_gen.errors import UserError
from lightning_gen.metrics import FeatureExtractor, GenerativeMetric, measure, protocols
from lightning_gen.metrics.distributed import together
from lightning_gen.metrics.engine import Sampler
from lightning_gen.metrics.held_out import HeldOutMetric, HeldOutSet
from lightning_gen.metrics.statistics_import import given_reference
from lightning_gen.model import GenerativeModel

MetricFactory = Callable[[FeatureExtractor], GenerativeMetric]
Quantise = Callable[[torch.Tensor], torch.Tensor]


def cache_folder(root: str | Path) -> str:
    """Where runs below `root` keep statistics of their data: `$LIGHTNING_GEN_CACHE`, or `cache` in it."""
    return os.environ.get("LIGHTNING_GEN_CACHE") or str(Path(root) / "cache")


class Evaluation(AtValidations):
    """Measures samples, and held-out rows under the model, at validations and tests.

    Values are logged under the metrics' names (`fid_digits`, never a bare `fid`), so that `ModelCheckpoint` can monitor
    them, and collected with their protocol in `metrics.csv` and `metrics.json` in the run's folder.

    Args:
        extractor: turns samples into features; shared by all metrics of samples. None where there are none.
        metrics: metrics of samples to make on it.
        num_samples: samples drawn, over all processes together.
        batch_size: samples drawn at a time in each process.
        every_n_validations: validations from one measurement to the next, ≥ 1.
        seed: names the set of samples; sample *i* is the same for any batch size and number of processes.
        split: split of the data that is the reference, unless `reference` is given.
        num_reference: number of reference samples, the first of the split; None for all.
        cache_dir: where reference statistics are kept; None for `$LIGHTNING_GEN_CACHE` or, in a run, for `cache` in its
            `default_root_dir`.
        reference: compare with this instead of a split of the data: statistics that `lightning_gen reference` or
            another program wrote, or images; see `metrics.statistics_import.given_reference`.
        held_out: metrics of held-out rows under the model.
        held_out_split: the split these are of; None for "test" where the data have it, else "val".
        num_held_out: number of its rows, the first of the split; None for all.
        reconstructions: metrics of samples to make on the extractor for what the model reconstructs from these rows,
            compared with the rows themselves; `FID` gives `reconstruction_fid_…`.
    """

    def __init__(
        self,
        extractor: FeatureExtractor | None = None,
        metrics: list[MetricFactory] | None = None,
        num_samples: int = 10_000,
        batch_size: int = 256,
        every_n_validations: int = 1,
        seed: int = 0,
        split: str = "train",
        num_reference: int | None = None,
        cache_dir: str | None = None,
        reference: str | None = None,
        held_out: list[HeldOutMetric] | None = None,
        held_out_split: str | None = None,
        num_held_out: int | None = None,
        reconstructions: list[MetricFactory] | None = None,
    ) -> None:
        numbers = {"batch_size": batch_size, "num_reference": num_reference, "num_held_out": num_held_out}
        for key, value in numbers.items():
            if value is not None and value < 1:
                raise UserError(f"Evaluation.{key} is {value}: it must be at least 1")
        super().__init__(every_n_validations)
        self.extractor = extractor
        self.metrics = _made("metrics", metrics, extractor)
        remade = _made("reconstructions", reconstructions, extractor)
        self.held_out = HeldOutSet(held_out or [], remade, held_out_split, num_held_out)
        if not self.metrics and not self.held_out:
            raise UserError("Evaluation has nothing to measure: name metrics, held_out or reconstructions")
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.split, self.num_reference, self.reference, self.cache_dir = split, num_reference, reference, cache_dir
        self._prepared: DataModule | None = None

    # ---------------------------------------------------------------- measuring

    def prepare(self, data: DataModule, device: torch.device, rank: int = 0, world_size: int = 1) -> None:
        """Load the extractor and the reference statistics, once; every process must call it.

        Raises:
            UserError: if weights are missing, the split does not exist, or there are too few samples for a metric.
        """
        if self._prepared is data:
            return
        for metric in self.metrics:
            metric.check(self.num_samples)
        if self.extractor is not None:
            together(self.extractor.prepare, world_size)  # weights may be missing on one machine
            self.extractor.to(device)
        options = {
            "cache_dir": self.cache_dir,
            "rank": rank,
            "world_size": world_size,
            "device": device,
            "batch_size": self.batch_size,
            "needs": frozenset[str]().union(*(m.needs for m in self.metrics)),  # so that the data are read once
        }
        for metric in self.metrics:
            metric.to(device)
        if self.reference is not None and self.metrics:
            self._take_reference(self.reference, **options)
        else:
            for metric in self.metrics:
                metric.fit_reference(data, split=self.split, num=self.num_reference, **options)
        self.held_out.prepare(data, **options)
        self._prepared = data

    def _take_reference(self, path: str, **options: Any) -> None:
        def images() -> SampleFiles:
            return open_samples(path, "Evaluation.reference", self.num_reference)

        assert self.extractor is not None
        found = given_reference(path, "Evaluation.reference", self.extractor, images, split="all", **options)
        for metric in self.metrics:
            if metric.needs:
                metric.set_reference(found)

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
        values: dict[str, float] = {}
        for sampler, metrics, quantise in self._sets(model, data):
            values |= measure(
                sampler,
                metrics,
                num_samples=self.num_samples,
                batch_size=self.batch_size,
                seed=self.seed,
                device=model.device,
                rank=rank,
                world_size=world_size,
                quantise=quantise,
            )
        shares = {"batch_size": self.batch_size, "seed": self.seed, "rank": rank, "world_size": world_size}
        return values | self.held_out.measure(model, data, **shares)

    def _sets(self, model: GenerativeModel, data: DataModule) -> list[tuple[Sampler, list[GenerativeMetric], Quantise]]:
        """What is drawn, by which metrics it is measured, and how it is stored."""
        own = [(sampler, metric) for metric in self.metrics if (sampler := metric.sampler(model)) is not None]
        others = [metric for metric in self.metrics if all(metric is not m for _, m in own)]
        # what is no sample is not rounded to bytes either
        sets: list[tuple[Sampler, list[GenerativeMetric], Quantise]] = [(s, [m], torch.Tensor.float) for s, m in own]
        if others:
            sets.insert(0, (lambda seeds: model.draw(len(seeds), seeds=seeds), others, data.modality.quantise))
        return sets

    def details(self) -> dict[str, Any]:
        """What the metrics have to say of the last values beside numbers; plain values for JSON."""
        return {name: value for metric in self.metrics for name, value in metric.details().items()}

    def protocol(self, model: GenerativeModel | None = None) -> dict[str, Any]:
        """How each value was made, by metric name; plain values for JSON. After `prepare`.

        Args:
            model: what was measured, or one like it; needed where there are metrics of held-out rows.
        """
        found = protocols(self.metrics, num_samples=self.num_samples, seed=self.seed)
        if self.held_out:
            assert model is not None
            assert self._prepared is not None
            found |= self.held_out.protocol(model, self._prepared, self.seed)
        return found

    @property
    def value_names(self) -> list[str]:
        """Names of what is measured, one a metric of samples."""
        return [metric.name for metric in self.metrics] + self.held_out.names

    # ---------------------------------------------------------------- while training

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fail early: extractor, data and numbers are checked before anything is trained."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, DataModule):
            raise UserError("Evaluation needs a lightning_gen.data.DataModule for its reference: set data")
        if self.metrics and self.split not in data.splits:
            raise UserError(
                f"Evaluation.split is {self.split!r}, which data does not have: use any of {', '.join(data.splits)}"
            )
        others = [c for c in trainer.callbacks if isinstance(c, Evaluation) and c is not self]  # type: ignore[attr-defined]
        if twice := set(self.value_names) & {name for other in others for name in other.value_names}:
            raise UserError(f"two Evaluations measure {', '.join(sorted(twice))}: leave it to one of them")
        for metric in self.metrics:
            metric.check(self.num_samples)
            metric.sampler(pl_module)
        assert isinstance(pl_module, GenerativeModel)
        self.held_out.check(pl_module, data)
        if self.extractor is not None:
            self.extractor.prepare()
        self.cache_dir = self.cache_dir or cache_folder(trainer.default_root_dir)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the reference now, so that whatever is wrong with it ends the run at its start."""
        self.prepare(trainer.datamodule, pl_module.device, trainer.global_rank, trainer.world_size)  # type: ignore[attr-defined]

    @property
    def state_key(self) -> str:
        """Several evaluations may go on in one run."""
        return f"Evaluation[{','.join(self.value_names)},{self.num_samples},{self.seed}]"

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
            record(folder, trainer.global_step, values, self.protocol(pl_module))


def _made(key: str, makers: list[MetricFactory] | None, extractor: FeatureExtractor | None) -> list[GenerativeMetric]:
    if not makers:
        return []
    if extractor is None:
        raise UserError(f"Evaluation.{key} need Evaluation.extractor, which is not set: name one, such as InceptionV3")
    return [make(extractor) for make in makers]
