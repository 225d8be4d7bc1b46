"""Command lines of `sample` and `evaluate`; nothing heavy is imported until they run."""

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
    _add_common(parser, batch_size=64)
    return parser


def evaluate_parser() -> ArgumentParser:
    """Options of `lightning_gen evaluate`."""
    parser = _parser("evaluate", "Measure checkpoints: a table, JSON with the protocol, CSV and a curve.")
    parser.add_argument("--ckpt_path", type=str, required=True, help="A checkpoint, or a quoted pattern of several.")
    parser.add_argument("--num_samples", type=int | None, default=None, help="Samples to draw; the recipe's if unset.")
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="Results go to OUTPUT.json, .csv and .png; the run's folder if unset.",
    )
    parser.add_argument(
        "--extractor", type=str | None, default=None, help="Class name of a feature extractor; the recipe's if unset."
    )
    parser.add_argument(
        "--metrics", type=list[str] | None, default=None, help="Class names of metrics; the recipe's if unset."
    )
    parser.add_argument(
        "--config",
        type=str | None,
        default=None,
        help="A YAML file laid over the checkpoint's configuration, for data elsewhere.",
    )
    _add_common(parser, batch_size=None)
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
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, gpu, … as Lightning names them.")
    parser.add_argument("--devices", type=int | str, default=1, help="Number of processes, one a device.")
    parser.add_argument("--num_nodes", type=int, default=1, help="Number of machines, under SLURM or torchrun.")
    parser.add_argument(
        "--allow", type=str, default="", help="Packages that the checkpoint may name classes of, separated by commas."
    )


PARSERS: dict[str, Callable[[], ArgumentParser]] = {"sample": sample_parser, "evaluate": evaluate_parser}


def main(args: list[str]) -> None:
    """Parse `sample …` or `evaluate …` and run it."""
    warnings.filterwarnings("ignore", ".*JsonargparseDeprecationWarning.*")
    options: dict[str, Any] = vars(PARSERS[args[0]]().parse_args(args[1:]))
    from lightning_gen.checkpoints import only_trusted

    with only_trusted(options["allow"]):
        if args[0] == "sample":
            from lightning_gen.commands.sample import sample

            sample(**options)
        else:
            from lightning_gen.commands.evaluate import evaluate

            evaluate(**options)
