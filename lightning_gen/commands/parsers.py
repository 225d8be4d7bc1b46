"""Command lines of `sample` and `evaluate`; nothing heavy is imported until they run."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any, Literal

from jsonargparse import ActionYesNo, ArgumentParser


def sample_parser() -> ArgumentParser:
    """Options of `lightning_gen sample`."""
    parser = _parser("sample", "Write samples of a checkpoint; nothing but the checkpoint is needed.")
    parser.add_argument("--ckpt_path", type=str, required=True, help="A checkpoint that fit wrote.")
    parser.add_argument("--num", type=int, default=64, help="Number of samples, at least 1.")
    parser.add_argument("--output", type=str, default="samples", help="Folder to write to.")
    parser.add_argument("--grid", action=ActionYesNo(no_prefix="no_"), default=True, help="Also write grid.png.")
    parser.add_argument(
        "--classes", type=str | None, default=None, help="Classes to draw, with commas, repeated in turn; all if unset."
    )
    parser.add_argument(
        "--attributes",
        type=str | None,
        default=None,
        help="Attributes to draw: --attributes=-Male,Smiling is without the one and with the other; the rest is drawn.",
    )
    parser.add_argument(
        "--walk",
        type=int,
        default=0,
        help="Also write walk.png: so many ways from one sample to another, eight samples each.",
    )
    _add_sampling(parser)
    _add_common(parser, batch_size=64)
    return parser


def evaluate_parser() -> ArgumentParser:
    """Options of `lightning_gen evaluate`."""
    parser = _parser("evaluate", "Measure checkpoints, or images that anyone made: a table, JSON, CSV and a curve.")
    parser.add_argument(
        "--ckpt_path", type=str | None, default=None, help="A checkpoint, or a quoted pattern of several."
    )
    parser.add_argument(
        "--samples", type=str | None, default=None, help="Images instead of a checkpoint: a folder, .zip, .npz or .npy."
    )
    parser.add_argument(
        "--reference",
        type=str | None,
        default=None,
        help="What to compare with: images as for --samples, or statistics; the data of the recipe if unset.",
    )
    parser.add_argument(
        "--num_samples", type=int | None, default=None, help="Samples to measure; the recipe's, or all, if unset."
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="Results go to OUTPUT.json, .csv and .png; the run's folder if unset.",
    )
    parser.add_argument(
        "--extractor",
        type=dict[str, Any] | str | None,
        default=None,
        help="A feature extractor, such as InceptionV3 or '{class_path: InceptionV3, init_args: {feature: \"768\"}}'.",
    )
    parser.add_argument(
        "--metrics",
        type=list[dict[str, Any] | str] | None,
        default=None,
        help="Metrics in the same form, such as '[FID, KID]'; the recipe's if unset.",
    )
    _add_held_out(parser)
    parser.add_argument(
        "--memorisation",
        action=ActionYesNo(no_prefix="no_"),
        default=True,
        help="Also look for copies of training images.",
    )
    parser.add_argument(
        "--report",
        type=str | None,
        default=None,
        help="Folder for a page (index.html) that compares what was measured.",
    )
    parser.add_argument(
        "--config",
        type=str | None,
        default=None,
        help="A YAML file laid over the checkpoint's configuration, for data elsewhere.",
    )
    _add_sampling(parser)
    _add_images(parser)
    _add_common(parser, batch_size=None)
    return parser


def weights_parser() -> ArgumentParser:
    """Options of `lightning_gen weights`."""
    parser = _parser("weights", "See whether the weights that metrics need are there, or fetch them.")
    parser.add_argument(
        "action", type=Literal["check", "fetch"], help="check: a table of what is found where; fetch: download."
    )
    parser.add_argument(
        "--extractor",
        type=str | None,
        default=None,
        help="InceptionV3, DINOv2, CLIP or DigitsClassifier, several with commas; InceptionV3 must be there if unset.",
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="File (a folder for DINOv2 and CLIP) to fetch to; the cache if unset.",
    )
    return parser


def reference_parser() -> ArgumentParser:
    """Options of `lightning_gen reference`."""
    parser = _parser("reference", "Measure data ahead, for machines without them: a file for evaluate --reference.")
    parser.add_argument("--data", type=str | None, default=None, help="Images: a folder, .zip, .npz or .npy file.")
    parser.add_argument(
        "--config",
        type=str | None,
        default=None,
        help="A recipe instead: its data, and the extractor, split and number of its Evaluation.",
    )
    parser.add_argument("--output", type=str, required=True, help="File to write, .safetensors.")
    parser.add_argument(
        "--extractor",
        type=dict[str, Any] | str | None,
        default=None,
        help="A feature extractor as for evaluate; the recipe's, or InceptionV3, if unset.",
    )
    parser.add_argument("--split", type=str | None, default=None, help="Of the recipe; its Evaluation's if unset.")
    parser.add_argument("--num", type=int | None, default=None, help="Only the first so many rows; all if unset.")
    parser.add_argument(
        "--features",
        action=ActionYesNo(no_prefix="no_"),
        default=True,
        help="Keep the features of each row, which all metrics but FID and its like need.",
    )
    parser.add_argument(
        "--spatial", action=ActionYesNo(no_prefix="no_"), default=False, help="Also measure spatial features, for sFID."
    )
    parser.add_argument("--batch_size", type=int, default=64, help="Rows at a time in each process.")
    _add_images(parser)
    _add_processes(parser)
    return parser


def _parser(name: str, description: str) -> ArgumentParser:
    return ArgumentParser(
        prog=f"lightning_gen {name}",
        description=description,
        default_env=True,
        env_prefix=f"LIGHTNING_GEN_{name.upper()}",
        exit_on_error=False,
        allow_abbrev=False,
    )


def _add_held_out(parser: ArgumentParser) -> None:
    of_rows = "'[EvidenceLowerBound]': metrics of held-out rows under the model; the recipe's if unset."
    of_reconstructions = "'[FID]': metrics of what is reconstructed from these rows; the recipe's if unset."
    for name, text in (("--held_out", of_rows), ("--reconstructions", of_reconstructions)):
        parser.add_argument(name, type=list[dict[str, Any] | str] | None, default=None, help=text)
    parser.add_argument("--held_out_split", type=str | None, default=None, help="Of these rows; the recipe's if unset.")
    parser.add_argument("--num_held_out", type=int | None, default=None, help="Only the first so many of these rows.")


def _add_images(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--labels",
        action=ActionYesNo(no_prefix="no_"),
        default=False,
        help="Folders directly below a folder of images are classes.",
    )
    parser.add_argument(
        "--num_workers",
        type=int | None,
        default=None,
        help="Threads that decode images in each process; by cores if unset.",
    )


def _add_sampling(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--sampler",
        type=dict[str, Any] | str | None,
        default=None,
        help="How samples are drawn, such as Langevin or '{class_path: Truncated, init_args: {psi: 0.7}}'.",
    )
    parser.add_argument(
        "--guidance",
        type=dict[str, Any] | str | None,
        default=None,
        help="How they keep to their condition, such as '{class_path: ClassifierFree, init_args: {scale: 2}}'.",
    )
    parser.add_argument(
        "--standing_statistics",
        type=int,
        default=0,
        help="Renew the generator's batch statistics from so many batches of its samples; 0 for those of training.",
    )


def _add_common(parser: ArgumentParser, batch_size: int | None) -> None:
    parser.add_argument(
        "--seed", type=int | None, default=None if batch_size is None else 0, help="Names the set of samples."
    )
    parser.add_argument(
        "--batch_size", type=int | None, default=batch_size, help="Samples drawn at a time in each process."
    )
    parser.add_argument(
        "--weights",
        type=Literal["ema", "raw"],
        default="ema",
        help="Averaged weights where there are any, or raw ones.",
    )
    _add_processes(parser)


def _add_processes(parser: ArgumentParser) -> None:
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu, … as Lightning names them.")
    parser.add_argument("--devices", type=int | str, default=1, help="Number of processes, one a device.")
    parser.add_argument("--num_nodes", type=int, default=1, help="Number of machines, under SLURM or torchrun.")
    parser.add_argument(
        "--allow", type=str, default="", help="Packages that the checkpoint may name classes of, separated by commas."
    )


PARSERS: dict[str, Callable[[], ArgumentParser]] = {
    "sample": sample_parser,
    "evaluate": evaluate_parser,
    "reference": reference_parser,
    "weights": weights_parser,
}


def main(args: list[str]) -> None:
    """Parse the options of one of our own commands and run `lightning_gen.commands.<command>.<command>`."""
    warnings.filterwarnings("ignore", ".*JsonargparseDeprecationWarning.*")
    name = args[0]
    options: dict[str, Any] = vars(PARSERS[name]().parse_args(args[1:]))
    function = getattr(importlib.import_module(f"lightning_gen.commands.{name}"), name)
    if "allow" not in options:  # nothing is built from what a file names
        function(**options)
        return
    from lightning_gen.trust import only_trusted

    with only_trusted(options["allow"]):
        function(**options)
