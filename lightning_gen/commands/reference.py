"""`lightning_gen reference`: statistics of data, made ahead, as a file that `evaluate --reference` takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric import Fabric

from lightning_gen.checkpoints import instantiate
from lightning_gen.commands.evaluate import Part, part
from lightning_gen.commands.processes import start
from lightning_gen.data import DataModule
from lightning_gen.data.sample_files import SampleFiles, open_samples
from lightning_gen.errors import UserError
from lightning_gen.metrics import FeatureExtractor
from lightning_gen.metrics.distributed import from_rank_zero, together
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.reference import ReferenceData, reference_statistics
from lightning_gen.metrics.reference_file import write_reference


def reference(
    data: str | None,
    config: str | None,
    output: str,
    extractor: Part | None,
    split: str | None,
    num: int | None,
    features: bool,
    spatial: bool,
    labels: bool,
    batch_size: int,
    num_workers: int | None,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
    **_: Any,
) -> None:
    """Measure images, or the data of a recipe, and write what metrics need to know of them.

    Args:
        data: images, see `open_samples`.
        config: a recipe instead, of which the data and the extractor, split and number of its evaluation are used.
        output: the file to write, `.safetensors`.
        extractor: class name of a feature extractor, or `{class_path, init_args}`; None for the recipe's, and for
            InceptionV3 without one.
        split: of the recipe's data; None for its evaluation's.
        num: use only the first so many rows, ≥ 2; None for the recipe's number, or for all.
        features: keep those of each row, which all metrics but FID and its like need.
        spatial: also measure spatial features, where the extractor has any.
        labels: folders of images are classes, see `open_samples`.
        batch_size: rows at a time in each process, ≥ 1.
        num_workers: threads that decode images in each process; None for what the CPU cores suggest.
        accelerator: as Lightning names them.
        devices: processes on this machine.
        num_nodes: machines.

    Raises:
        UserError: for anything wrong with these.
    """
    _check(data, config, split, labels, num, batch_size, num_workers)
    target = _target(output)
    recipe = {} if config is None else _recipe(config)
    evaluation = {} if config is None else _evaluation(recipe, extractor)
    chosen = extractor or evaluation.get("extractor") or "InceptionV3"
    describe = instantiate(FeatureExtractor, part(chosen))
    if spatial and describe.num_spatial is None:
        raise UserError(f"--spatial is set, but extractor {describe.name!r} has no spatial features: leave it out")
    fabric = start(accelerator, devices, num_nodes)
    together(describe.prepare, fabric.world_size)
    source: DataModule | SampleFiles
    if data is not None:
        split = "all"
        source = from_rank_zero(lambda: open_samples(data, "--data", num, labels, num_workers), fabric.world_size)
    else:
        split = split or evaluation.get("split") or "train"
        num = num or evaluation.get("num_reference")
        module: DataModule = instantiate(DataModule, recipe["data"])
        from_rank_zero(module.prepare_data, fabric.world_size)
        source = module
    wanted = {"moments": True, "features": features, "spatial": spatial}
    needs = {need for need, there in wanted.items() if there}
    found = _measure(describe, source, split, num, needs, batch_size, fabric)
    if found.y is not None and source.class_names is not None:
        found = replace(found, protocol={**found.protocol, "class_names": source.class_names})
    from_rank_zero(lambda: _write(target, found), fabric.world_size)
    if fabric.is_global_zero:
        for note in source.notes if isinstance(source, SampleFiles) else []:
            print(f"note: {note}")
        kept = ", ".join(need for need in wanted if need in needs)
        print(f"{target}: {kept} of {found.n} rows by {describe.name}")


def _check(
    data: str | None,
    config: str | None,
    split: str | None,
    labels: bool,
    num: int | None,
    batch_size: int,
    num_workers: int | None,
) -> None:
    if (data is None) == (config is None):
        raise UserError("give either --data, a folder, .zip, .npz or .npy file of images, or --config, a recipe")
    if data is not None and split is not None:
        raise UserError(f"--split {split} is one of a recipe's, but --data {data} is one set: leave it out")
    if config is not None and labels:
        raise UserError("--labels takes the folders of --data for classes, but a recipe has its own: leave it out")
    for name, value, least in (("num", num, 2), ("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}: it must be at least {least}")


def _measure(
    extractor: FeatureExtractor,
    data: ReferenceData,
    split: str,
    num: int | None,
    needs: set[str],
    batch_size: int,
    fabric: Fabric,
) -> ReferenceStatistics:
    """The statistics, without what the cache may hold beside them."""
    found = reference_statistics(
        extractor,
        data,
        split=split,
        num=num,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        device=fabric.device,
        batch_size=batch_size,
        needs=needs,
    )
    return replace(
        found,
        features=found.features if "features" in needs else None,
        y=found.y if "features" in needs else None,
        spatial=found.spatial if "spatial" in needs else None,
    )


def _recipe(config: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(Path(config).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"--config {config} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict) or not settings.get("data"):
        raise UserError(f"--config {config} has no data: give a recipe, such as configs/gan/dcgan_digits.yaml")
    if isinstance(settings["data"], str):
        settings["data"] = {"class_path": settings["data"]}
    return settings


def _evaluation(settings: dict[str, Any], extractor: Part | None) -> dict[str, Any]:
    """Arguments of the recipe's evaluation; of the first, where all have one extractor or it does not matter."""
    callbacks = (settings.get("trainer") or {}).get("callbacks") or []
    found = [
        callback.get("init_args") or {}
        for callback in callbacks
        if isinstance(callback, dict) and str(callback.get("class_path")).rsplit(".", 1)[-1] == "Evaluation"
    ]
    if extractor is None and any(other.get("extractor") != found[0].get("extractor") for other in found):
        raise UserError("the recipe evaluates by several extractors, but a file holds one: name it with --extractor")
    if extractor is None and not found:
        raise UserError("the recipe has no Evaluation callback: name an --extractor, such as InceptionV3")
    return found[0] if found else {}


def _target(output: str) -> Path:
    target = Path(output)
    if target.suffix != ".safetensors":
        raise UserError(f"--output {output} must end in .safetensors, by which `evaluate --reference` knows it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        probe = target.with_name(f".{target.name}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--output {target} cannot be written ({error.strerror}): choose another place") from error
    return target


def _write(target: Path, statistics: ReferenceStatistics) -> None:
    try:
        write_reference(target, statistics)
    except OSError as error:
        raise UserError(f"--output {target} cannot be written ({error.strerror}): choose another place") from error
