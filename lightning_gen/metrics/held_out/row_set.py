"""What is measured of the rows of one split: numbers under the model, and how real its reconstructions look."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lightning_gen.abilities import Reconstructs, require
from lightning_gen.errors import UserError
from lightning_gen.metrics.base import GenerativeMetric
from lightning_gen.metrics.engine import Batch, finite_batches, measure_batches, protocols, random_state_kept
from lightning_gen.metrics.held_out.base import HeldOutMetric
from lightning_gen.metrics.held_out.engine import in_model_form, measure_held_out, protocols_of, rows_of

if TYPE_CHECKING:
    from lightning_gen.data import DataModule
    from lightning_gen.model import GenerativeModel

PREFIX = "reconstruction_"
"""What the names of sample metrics of reconstructions begin with."""


class HeldOutSet:
    """Metrics of the rows of a split, and sample metrics of their reconstructions, compared with these rows.

    Args:
        metrics: of the rows under the model.
        reconstructions: of what the model reconstructs from them.
        split: of the data; None for "test" where there is one, else "val".
        num_rows: only the first so many rows; None for all.
    """

    def __init__(
        self,
        metrics: list[HeldOutMetric],
        reconstructions: list[GenerativeMetric],
        split: str | None,
        num_rows: int | None,
    ) -> None:
        self.metrics, self.reconstructions = metrics, reconstructions
        self.split, self.num_rows = split, num_rows

    def __bool__(self) -> bool:
        return bool(self.metrics or self.reconstructions)

    @property
    def names(self) -> list[str]:
        """Of the values."""
        return [name for metric in self.metrics for name in metric.directions] + [
            PREFIX + metric.name for metric in self.reconstructions
        ]

    def split_of(self, data: "DataModule") -> str:
        """Which split it is.

        Raises:
            UserError: if the data have no such split.
        """
        split = self.split or next((name for name in ("test", "val") if name in data.splits), None)
        if split not in data.splits:
            told = f"is {split!r}, which data does not have" if split else "is unset, but data has neither test nor val"
            raise UserError(f"Evaluation.held_out_split {told}: use any of {', '.join(data.splits)}")
        return split

    def check(self, model: "GenerativeModel", data: "DataModule") -> None:
        """Refuse a model or data that it cannot be about; loads nothing.

        Raises:
            UserError: if the model lacks an ability, or the data do not have what is needed.
        """
        if self:
            self.split_of(data)
        for metric in self.metrics:
            metric.check(model, data)
        for sample_metric in self.reconstructions:
            require(model, Reconstructs, f"{PREFIX}{sample_metric.name}", "reconstruct samples")
            if sample_metric.sampler(model) is not None:
                raise UserError(
                    f"Evaluation.reconstructions has {type(sample_metric).__name__}, which is not about single samples:"
                    " leave it to metrics"
                )

    def prepare(self, data: "DataModule", **options: Any) -> None:
        """Measure the rows as reference of their reconstructions; `options` of `reference.reference_statistics`.

        Raises:
            UserError: if there are too few rows for a metric.
        """
        if not self.reconstructions:
            return
        count = rows_of(data, self.split_of(data), self.num_rows)
        needs = frozenset[str]().union(*(metric.needs for metric in self.reconstructions))
        for metric in self.reconstructions:
            metric.check(count)
            metric.to(options["device"])
            metric.fit_reference(
                data, **(options | {"split": self.split_of(data), "num": self.num_rows, "needs": needs})
            )

    def measure(
        self,
        model: "GenerativeModel",
        data: "DataModule",
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> dict[str, float]:
        """All values by name, the same in every process; arguments as of `measure_held_out`."""
        self.check(model, data)
        values: dict[str, float] = {}
        if self.reconstructions:
            with random_state_kept(model.device):
                found = measure_batches(
                    finite_batches(self._reconstructed(model, data, batch_size, rank, world_size)),
                    self.reconstructions,
                    num_samples=rows_of(data, self.split_of(data), self.num_rows),
                    device=model.device,
                    world_size=world_size,
                )
            values |= {PREFIX + name: value for name, value in found.items()}
        if self.metrics:
            values |= measure_held_out(
                model,
                data,
                self.metrics,
                split=self.split_of(data),
                num_rows=self.num_rows,
                batch_size=batch_size,
                seed=seed,
                rank=rank,
                world_size=world_size,
            )
        return values

    def protocol(self, model: "GenerativeModel", data: "DataModule", seed: int) -> dict[str, Any]:
        """How each value is made, by its name; after `prepare`."""
        if not self:
            return {}
        split = self.split_of(data)
        samples = f"reconstructions of split {split!r}"
        count = rows_of(data, split, self.num_rows)
        found = {
            PREFIX + name: how | ({"values": [PREFIX + value for value in how["values"]]} if "values" in how else {})
            for name, how in protocols(self.reconstructions, count, seed=None, samples=samples).items()
        }
        return found | protocols_of(self.metrics, model, data, split=split, num_rows=self.num_rows, seed=seed)

    def _reconstructed(
        self, model: "GenerativeModel", data: "DataModule", batch_size: int, rank: int, world_size: int
    ) -> Iterator[Batch]:
        """This process's share of the reconstructions in stored form, with the rows' own classes."""
        for batch in data.rows(self.split_of(data), rank, world_size, batch_size, self.num_rows):
            made = in_model_form(model, data, batch, seed=0).reconstructions
            yield {name: value for name, value in batch.items() if name in ("y", "index")} | {
                "x": data.modality.quantise(made),
                "finite": made.flatten(1).isfinite().all(dim=1),
            }
