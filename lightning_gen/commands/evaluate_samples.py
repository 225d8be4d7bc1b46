"""`lightning_gen evaluate --samples`: metrics of images that anyone made; no model is needed."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric import Fabric

from lightning_gen.callbacks import Evaluation
from lightning_gen.checkpoints import instantiate
from lightning_gen.commands.pictures import PAIRS_A_ROW
from lightning_gen.commands.processes import start
from lightning_gen.commands.results import Results, Row, check_output, free_target, output_path, table
from lightning_gen.data import Images
from lightning_gen.data.sample_files import SampleFiles, open_samples
from lightning_gen.errors import UserError
from lightning_gen.metrics import FeatureExtractor, GenerativeMetric, measure_batches, protocols
from lightning_gen.metrics.distributed import from_rank_zero, together
from lightning_gen.metrics.memorisation import Memorisation
from lightning_gen.metrics.statistics_import import given_reference, has_features

if TYPE_CHECKING:
    import numpy as np

BATCH_SIZE = 64


def evaluate_samples(
    samples: str,
    changes: dict[str, Any],
    output: str | None,
    memorisation: bool,
    report: str | None,
    config: str | None,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
    labels: bool = False,
    num_workers: int | None = None,
    **_: Any,
) -> None:
    """Measure a set of images, in the order of their names, each process its share.

    Args:
        samples: see `open_samples`.
        changes: `extractor` (InceptionV3 if not there) and `metrics` as `{class_path, init_args}`, `reference`,
            `num_samples` (the first of the set; all if not there) and `batch_size`.
        output: results go to this path with `.json` and `.csv`; None for a name beside the samples.
        memorisation: also look for copies of reference images, where the reference tells single ones.
        report: folder for a page about the samples; None for none.
        config: refused: images have no recipe.
        accelerator: as Lightning names them.
        devices: processes on this machine.
        num_nodes: machines.
        labels: folders are classes, see `open_samples`; of the reference, too.
        num_workers: threads that decode in each process; None for what the CPU cores suggest.

    Raises:
        UserError: for anything wrong with these.
    """
    _check(changes, config, num_workers)
    target = output_path(output) if output else _beside(Path(samples))
    reference: str | None = changes.get("reference")
    extractor, metrics = _metrics(changes, reference, memorisation)
    fabric = start(accelerator, devices, num_nodes)
    from_rank_zero(lambda: check_output(target), fabric.world_size)
    if report:
        from_rank_zero(lambda: check_output(Path(report) / "index", "--report"), fabric.world_size)
    opened = from_rank_zero(
        lambda: open_samples(samples, "--samples", changes.get("num_samples"), labels, num_workers), fabric.world_size
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is warned about when the set begins
        for metric in metrics:
            metric.check(len(opened))
    together(extractor.prepare, fabric.world_size)
    batch_size = changes.get("batch_size", BATCH_SIZE)
    real = _compare(metrics, extractor, reference, opened, labels, batch_size, fabric)
    protocol = protocols(metrics, num_samples=len(opened), seed=None)
    results = from_rank_zero(
        lambda: Results(target if output else free_target(target, protocol), protocol), fabric.world_size
    )
    row: Row = {"samples": samples, "sha256": from_rank_zero(opened.fingerprint, fabric.world_size)}
    if (known := results.find(**row)) is None:
        row |= measure_batches(
            opened.rows("all", fabric.global_rank, fabric.world_size, batch_size),
            metrics,
            num_samples=len(opened),
            device=fabric.device,
            world_size=fabric.world_size,
        )
        row |= {name: value for metric in metrics for name, value in metric.details().items()}
    if fabric.is_global_zero:
        if known is None:
            results.add(row)
        _show(known or row, opened, real, results, report)


def _check(changes: dict[str, Any], config: str | None, num_workers: int | None) -> None:
    for name, value, least in (
        ("num_samples", changes.get("num_samples"), 1),
        ("batch_size", changes.get("batch_size"), 1),
        ("num_workers", num_workers, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}: it must be at least {least}")
    if "seed" in changes:
        raise UserError("--seed draws samples of a checkpoint, but --samples are drawn already: leave it out")
    reference = changes.get("reference")
    if reference is not None and not Path(reference).exists():
        raise UserError(f"--reference {reference} does not exist: give images, or statistics in .npz or .safetensors")
    if config is not None:
        raise UserError(f"--config {config} is laid over a checkpoint's recipe, but --samples have none: leave it out")


def _beside(path: Path) -> Path:
    return path.resolve().with_name(f"{path.resolve().stem}_evaluation")


def _metrics(
    changes: dict[str, Any], reference: str | None, memorisation: bool
) -> tuple[FeatureExtractor, list[GenerativeMetric]]:
    """What is asked for; else FID, KID where the reference has rows, and the inception score where there are logits."""
    extractor = changes.get("extractor", {"class_path": "InceptionV3"})
    rows = reference is not None and has_features(reference)
    chosen = changes.get("metrics")
    if chosen is None:
        named = [("fid.FID", reference is not None), ("kid.KID", rows)]
        named += [("inception_score.InceptionScore", instantiate(FeatureExtractor, extractor).num_logits is not None)]
        chosen = [{"class_path": f"lightning_gen.metrics.{name}"} for name, wanted in named if wanted]
    if not chosen:
        raise UserError("--reference is missing: give images or statistics to compare --samples with")
    arguments = {"extractor": extractor, "metrics": chosen}
    built = instantiate(Evaluation, {"class_path": "lightning_gen.callbacks.Evaluation", "init_args": arguments})
    metrics: list[GenerativeMetric] = built.metrics
    if memorisation and rows and not any(isinstance(metric, Memorisation) for metric in metrics):
        metrics.append(Memorisation(built.extractor))
    if reference is None and (lost := [metric.name for metric in metrics if metric.needs]):
        raise UserError(f"--reference is missing: give images or statistics that {', '.join(lost)} can compare with")
    return built.extractor, metrics


def _compare(
    metrics: list[GenerativeMetric],
    extractor: FeatureExtractor,
    reference: str | None,
    samples: SampleFiles,
    labels: bool,
    batch_size: int,
    fabric: Fabric,
) -> SampleFiles | None:
    """Give the metrics their reference; its images, where it is made of them and they were looked at."""
    opened: list[SampleFiles] = []

    def images() -> SampleFiles:
        found = from_rank_zero(
            lambda: open_samples(str(reference), "--reference", None, labels, samples.num_workers), fabric.world_size
        )
        opened.append(found)
        return found

    needs = frozenset[str]().union(*(metric.needs for metric in metrics))
    if reference is None or not needs:
        return None
    statistics = given_reference(
        reference,
        "--reference",
        extractor,
        images,
        needs,
        split="all",
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        device=fabric.device,
        batch_size=batch_size,
    )
    names = opened[0].class_names if opened else statistics.protocol.get("class_names")
    if names and samples.class_names and (others := set(names) ^ set(samples.class_names)):
        raise UserError(
            f"--reference {reference} has other classes than --samples ({', '.join(sorted(others)[:3])} only in one):"
            " call the folders of a class alike"
        )
    for metric in metrics:
        if metric.needs:
            metric.set_reference(statistics)
    return opened[0] if opened else None


def _show(row: Row, samples: SampleFiles, reference: SampleFiles | None, results: Results, report: str | None) -> None:
    """Print the table, draw the nearest reference images, write the report."""
    for note in samples.notes + (reference.notes if reference else []):
        print(f"note: {note}")
    if reference is not None and reference.images.shape != samples.images.shape:
        sizes = (
            f"{height}×{width} with {channels} channels"
            for channels, height, width in (samples.images.shape, reference.images.shape)
        )
        print(f"note: samples are {next(sizes)} but the reference is {next(sizes)}: what differs may be the resize")
    print(table([row]))
    written = [results.path("json"), results.path("csv")]
    pairs = _pairs(row.get("neighbours"), samples, reference)
    if pairs is not None:
        written.append(results.draw_neighbours(pairs))
    if report:
        from lightning_gen.commands.report import Entry, write_report

        shown = torch.arange(min(len(samples), Images.picture_size))
        grid = Images().grid(samples.images[shown]["x"], round(Images.picture_size**0.5))
        entries = [Entry(str(row["samples"]), [row], grid, pairs)]
        written.append(write_report(Path(report), entries, results.protocol, results.best(), None))
    print("\n" + "\n".join(map(str, written)))


def _pairs(
    pairs: list[dict[str, Any]] | None, samples: SampleFiles, reference: SampleFiles | None
) -> "np.ndarray | None":
    """Samples, each with its nearest reference image to the right: (H, W, 3) uint8, where they have one shape."""
    if not pairs or reference is None or reference.images.shape != samples.images.shape:
        return None
    sets = (("sample", samples), ("row", reference))
    both = [of.images[torch.tensor([pair[key] for pair in pairs])]["x"] for key, of in sets]
    return Images().grid(torch.stack(both, dim=1).flatten(0, 1), 2 * PAIRS_A_ROW)
