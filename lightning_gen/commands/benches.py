"""What `evaluate` measures checkpoints by: the data and evaluations of their recipes, and what the command changes."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.fabric import Fabric

from lightning_gen.callbacks import Evaluation
from lightning_gen.callbacks.evaluation import cache_folder
from lightning_gen.checkpoints import configuration, instantiate, read_checkpoint
from lightning_gen.commands.results import differing
from lightning_gen.commands.sampling import Sampling
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.metrics.distributed import from_rank_zero
from lightning_gen.model import GenerativeModel

Bench = tuple[DataModule, list[Evaluation]]
Arguments = dict[str, Any]
"""Of an `Evaluation`, by name; those that are unset are left out."""


@dataclass(frozen=True)
class Candidate:
    """A checkpoint to measure, and on what."""

    path: Path
    step: int
    model: dict[str, Any]
    model_sha256: str
    """Of the model's configuration, which --config may have changed, and of how it is sampled."""
    bench: str
    """The settings of its data and evaluations, as JSON; checkpoints that share them share the work."""
    sampling: Sampling
    """How it is sampled."""


def candidate_of(
    path: Path, allow: str, config: str | None, changes: dict[str, Any], memorisation: bool, sampling: Sampling
) -> Candidate:
    """A checkpoint with what its own configuration, and the command line, say of measuring it; arguments of `sweep`."""
    checkpoint = read_checkpoint(path, mmap=True)
    settings = _lay_over(configuration(checkpoint, path, allow), config)
    bench = {"data": settings["data"], "evaluations": evaluations_of(settings, changes, memorisation)}
    asked = {"sampling": sampling.protocol()} if sampling.protocol() else {}
    model = hashlib.sha256(json.dumps(settings["model"] | asked, sort_keys=True).encode()).hexdigest()
    bench_settings = json.dumps(bench, sort_keys=True)
    return Candidate(path, checkpoint.get("global_step", 0), settings["model"], model, bench_settings, sampling)


def benches_of(candidates: list[Candidate], fabric: Fabric) -> tuple[dict[str, Bench], dict[str, Any]]:
    """Set up what the checkpoints need, and see that their numbers can stand in one table.

    Returns:
        Data and evaluations by `Candidate.bench`, and the protocol of every value.
    """
    benches: dict[str, Bench] = {}
    protocol: dict[str, Any] | None = None
    known: set[tuple[str, str]] = set()
    for candidate in candidates:
        if candidate.bench not in benches:
            benches[candidate.bench] = _bench(json.loads(candidate.bench), fabric)
        if (key := (candidate.bench, candidate.model_sha256)) in known:
            continue
        known.add(key)
        own = _protocol(candidate, *benches[candidate.bench])
        if protocol is None:
            protocol = own
        elif own != protocol:
            raise UserError(
                f"{candidates[0].path} and {candidate.path} are measured differently ({differing(protocol, own)}), so"
                " their numbers cannot be compared: evaluate them apart"
            )
    assert protocol is not None  # there are candidates
    return benches, protocol


def evaluations_of(settings: dict[str, Any], changes: dict[str, Any], memorisation: bool) -> list[Arguments]:
    """Arguments of the recipe's evaluations with what the command line changes; of a plain one if it has none.

    What the command line names instead of the recipe's metrics is measured once, however many evaluations there are.

    Raises:
        UserError: if nothing says what to measure.
    """
    trainer = settings.get("trainer") or {}
    found = [
        {key: value for key, value in callback["init_args"].items() if value is not None}
        for callback in trainer.get("callbacks") or []
        if _names(callback, Evaluation.__name__)
    ]
    if not found and not {"extractor", "held_out"} & changes.keys():
        raise UserError(
            "the recipe of this checkpoint has no Evaluation callback: name an --extractor, such as InceptionV3, or"
            " what to measure --held_out"
        )
    root = trainer.get("default_root_dir")
    below = {"cache_dir": cache_folder(root)} if root and Path(root).is_dir() else {}
    found = [below | arguments for arguments in _changed(found, changes)]
    sampled = [k for k, arguments in enumerate(found) if arguments.get("metrics")]
    # rows of another reference are not those that were trained on
    asked = memorisation and "reference" not in changes and sampled
    if asked and not any(_names(metric, "Memorisation") for k in sampled for metric in found[k]["metrics"]):
        first = found[sampled[0]]
        found[sampled[0]] = first | {"metrics": [*first["metrics"], {"class_path": "Memorisation"}]}
    return found


def _changed(own: list[Arguments], changes: dict[str, Any]) -> list[Arguments]:
    """Evaluations with the values of `changes` in place of their own, of which there may be none."""
    found = [dict(arguments) for arguments in own]
    of_samples: Arguments = {key: changes[key] for key in ("extractor", "metrics") if key in changes}
    of_rows: Arguments = {key: changes[key] for key in ("held_out", "reconstructions") if key in changes}
    if of_samples:  # one list of metrics on one extractor
        if not any(arguments.get("metrics") for arguments in found):
            found.insert(0, {} if of_rows else {"metrics": [{"class_path": "FID"}]})
        first = next((arguments for arguments in found if arguments.get("metrics")), found[0])
        found = [arguments for arguments in found if arguments is first or not arguments.get("metrics")]
        for arguments in found:
            if arguments is not first and "extractor" in arguments:
                arguments |= {"extractor": of_samples.get("extractor", arguments["extractor"])}
        first |= of_samples
    found = found or [{}]
    described = next((k for k, arguments in enumerate(found) if "extractor" in arguments), 0)
    for key, value in of_rows.items():
        chosen = described if key == "reconstructions" else 0
        found = [arguments | {key: value if k == chosen else []} for k, arguments in enumerate(found)]
    found = [a for a in found if a.get("metrics") or a.get("held_out") or a.get("reconstructions")]
    if not found:
        raise UserError("nothing is left to measure: name some --metrics, or what to measure --held_out")
    everywhere = {key: value for key, value in changes.items() if key not in (*of_samples, *of_rows)}
    return [arguments | everywhere for arguments in found]


def _bench(settings: dict[str, Any], fabric: Fabric) -> Bench:
    data: DataModule = instantiate(DataModule, settings["data"])
    from_rank_zero(data.prepare_data, fabric.world_size)
    evaluations = [
        instantiate(Evaluation, {"class_path": "lightning_gen.callbacks.Evaluation", "init_args": arguments})
        for arguments in settings["evaluations"]
    ]
    names = [name for evaluation in evaluations for name in evaluation.value_names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"two evaluations of the recipe measure {', '.join(twice)}: leave it to one of them")
    for evaluation in evaluations:
        evaluation.prepare(data, fabric.device, fabric.global_rank, fabric.world_size)
    return data, evaluations


def _protocol(candidate: Candidate, data: DataModule, evaluations: list[Evaluation]) -> dict[str, Any]:
    """How a checkpoint's values are made; what its model cannot be asked for is said before anything is measured."""
    model: GenerativeModel | None = None
    if any(evaluation.held_out for evaluation in evaluations):
        model = _without_weights(candidate.model)
        for evaluation in evaluations:
            evaluation.held_out.check(model, data)
    return {name: how for evaluation in evaluations for name, how in evaluation.protocol(model).items()}


def _without_weights(config: dict[str, Any]) -> GenerativeModel:
    """A model that can be asked what it can do, which takes neither time to draw weights nor memory for them."""
    try:
        with torch.device("meta"):
            return instantiate(GenerativeModel, config)
    except Exception:  # one that computes with its weights while it is made
        return instantiate(GenerativeModel, config)


def _names(part: Any, name: str) -> bool:
    """Whether a class in a configuration, with its arguments or not, is `name`."""
    path = part["class_path"] if isinstance(part, dict) else part
    return str(path).rsplit(".", 1)[-1] == name


def _lay_over(settings: dict[str, Any], config: str | None) -> dict[str, Any]:
    """`settings` with the values of a YAML file in place of its own."""
    if config is None:
        return settings
    try:
        over = yaml.safe_load(Path(config).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"--config {config} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(over, dict):
        raise UserError(f"--config {config} holds no settings: give keys such as data, with what replaces their values")

    for key in over:
        if key not in ("model", "data", "trainer"):
            raise UserError(
                f"--config {config}: {key!r} is no key of a recipe that evaluate uses: use model, data or trainer"
            )

    def merge(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            return below | {key: merge(below.get(key), value) for key, value in above.items()}
        return above

    return merge(settings, over)
