"""`fit`, `validate`, `test` and `predict`: LightningCLI with this package's grammar.

Flags win over files, later files over earlier ones, files over environment variables (`LIGHTNING_GEN_FIT__…`). Where no
file is given but a checkpoint is, the configuration inside the checkpoint stands for the file.
"""

import json
import logging
import os
import shlex
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import set_parsing_settings
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_gen.callbacks import (
    EMA,
    Evaluation,
    FiniteGuard,
    HeldOutRecord,
    LastCheckpoint,
    SampleWriter,
    StepProgressBar,
    Throughput,
)
from lightning_gen.callbacks.run_folder import run_folder
from lightning_gen.checkpoints import (
    AtomicCheckpointIO,
    configuration,
    import_components,
    read_checkpoint,
)
from lightning_gen.commands.completion import NamedStrategyTrainer, Parser, complete_shallowly
from lightning_gen.commands.words import (
    as_list,
    check_files,
    check_writable,
    number_of_processes,
    option,
    stem,
)
from lightning_gen.data import DataModule
from lightning_gen.errors import UserError
from lightning_gen.files import last_checkpoint
from lightning_gen.model import GenerativeModel
from lightning_gen.strategies import FlatReduceStrategy
from lightning_gen.trust import allowing, only_trusted, untrusted_packages

_QUIET_LOG = ("💡 Tip", "`weights_only` was not set")
_QUIET = (
    "`instantiate_classes` was deprecated",  # Lightning's own call
    ".*JsonargparseDeprecationWarning.*",
    ".*does not have many workers.*",  # small sets are batched faster in the process itself
    ".*manual optimization and every_n_train_steps.*",  # a checkpoint after the step is what is wanted
    ".*exists and is not empty.*",  # a resumed run goes on in its folder
    ".*is smaller than the logging interval.*",  # steps are counted across epochs
    "It is recommended to use `self.log.*sync_dist=True",  # metrics are reduced before they are logged
    ".*in eval mode at the start of training.*",  # a frozen first stage is meant to be
    "LightningCLI's args parameter is intended.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


class Command(LightningCLI):
    """One command line of `fit`, `validate`, `test` or `predict`, from its words to its end."""

    def __init__(self, args: list[str], trainer_class: type[Trainer] = Trainer) -> None:
        import_components()
        parser_kwargs = {
            "default_env": True,
            "env_prefix": "LIGHTNING_GEN",
            "exit_on_error": False,
            "allow_abbrev": False,
        }
        super().__init__(
            GenerativeModel,
            DataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=RunConfig,
            trainer_class=trainer_class,
            seed_everything_default=0,
            trainer_defaults={"default_root_dir": "runs"},
            parser_kwargs={**parser_kwargs, "prog": "lightning_gen"}
            | {name: dict(parser_kwargs) for name in self.subcommands()},
            parser_class=Parser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # checkpoints carry the whole configuration instead
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what every run has: a name and a guard."""
        parser.add_argument(
            "--run_name",
            type=str | None,
            default=None,
            help="Folder below default_root_dir; the recipe's file name if unset.",
        )
        parser.add_argument(
            "--allow", type=str, default="", help="Packages that a checkpoint may name classes of, with commas."
        )
        parser.add_lightning_class_args(FiniteGuard, "finite_guard")

    def _parse_ckpt_path(self) -> None:
        """Replace Lightning's reading of the checkpoint, which would overrule the command line."""

    # ---------------------------------------------------------------- before anything is built

    def before_instantiate_classes(self) -> None:
        """Resolve what to resume, and see that the run's folder can be written."""
        config = self.config[self.subcommand]
        self.root = Path(config.trainer.default_root_dir or "runs")
        self.name = config.run_name or stem(config.get("config"))
        check_writable(self.root)
        if config.ckpt_path == "last":
            config.ckpt_path = last_checkpoint(self.root / self.name)
            if config.ckpt_path is None and self.subcommand != "fit":
                raise UserError(f"--ckpt_path last: there is no checkpoint in {self.root / self.name}: train first")
            if config.ckpt_path is None:
                warnings.warn(f"no checkpoint in {self.root / self.name}: starting afresh", stacklevel=1)
        if config.ckpt_path not in (None, "best"):
            read_checkpoint(config.ckpt_path, mmap=True)  # whatever is wrong with it is said now

    # ---------------------------------------------------------------- building

    def instantiate_classes(self) -> None:
        """Build everything; a model may read other checkpoints while it is built, a second stage its first."""
        with allowing(self.config[self.subcommand].allow):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add this package's defaults: logger, strategy, checkpoint files, callbacks."""
        config = self.config_init[self.subcommand].trainer
        fit = self.subcommand == "fit"
        if config.logger in (None, True):
            kwargs["logger"] = self._logger() if fit and not config.fast_dev_run else False
        if config.strategy == "auto" and number_of_processes(config) > 1:
            kwargs["strategy"] = FlatReduceStrategy() if not self.model.automatic_optimization else "ddp"
        kwargs["plugins"] = [*as_list(config.plugins), AtomicCheckpointIO()]
        callbacks = as_list(config.callbacks)
        if fit:
            self.held_out = HeldOutRecord()
            callbacks += [Throughput(), self.held_out]
        if self.subcommand == "predict":
            callbacks.append(SampleWriter())
        if config.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(StepProgressBar())
        # averages come first, and the checkpoint that holds every other callback's state comes last
        kwargs["callbacks"] = sorted(callbacks, key=lambda c: isinstance(c, LastCheckpoint) - isinstance(c, EMA))
        return super().instantiate_trainer(**kwargs)

    def _logger(self) -> TensorBoardLogger:
        folder = Path(self.config[self.subcommand].ckpt_path or "").resolve().parent.parent
        if folder.parent == (self.root / self.name).resolve():  # a resumed run goes on in its own folder
            return TensorBoardLogger(self.root, self.name, version=folder.name)
        return TensorBoardLogger(self.root, self.name)

    def after_instantiate_classes(self) -> None:
        """Give the model the configuration that its checkpoints will carry."""
        plain = yaml.safe_load(self.parser.dump(self.config, skip_none=False, format="yaml"))[self.subcommand]
        config = {key: plain[key] for key in ("seed_everything", "trainer", "model", "data")}
        self.model.config = self.model.portable(config | {"run_name": self.name})

    def before_predict(self) -> None:
        """Samples are written as they come, not kept."""
        self.config_init.predict.return_predictions = False

    # ---------------------------------------------------------------- after training

    def after_fit(self) -> None:
        """Say where things are and how to go on."""
        trainer = self.trainer
        folder = run_folder(trainer)
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        savers = [saver for saver in trainer.checkpoint_callbacks if isinstance(saver, ModelCheckpoint)]
        paths = [saver.best_model_path for saver in savers if saver.monitor is not None]
        best = next((path for path in paths if path and Path(path).exists()), None)
        last = folder / "checkpoints" / "last.ckpt"
        grids = sorted((folder / "grids").glob("*.png"))
        rows = {
            "run": folder,
            "grid": grids[-1] if grids else None,
            "best": best,
            "last": last if last.exists() else None,
            "metrics": folder / "metrics.csv" if (folder / "metrics.csv").exists() else None,
        }
        shown = {key: _relative(path) for key, path in rows.items() if path}
        print("\n" + "\n".join(f"{key:<9}{path}" for key, path in shown.items()))
        if not self.held_out.validations:
            print("\nNo validation was reached, so nothing was measured or drawn: lower trainer.val_check_interval, or")
            print("trainer.check_val_every_n_epoch where it counts epochs, or train longer")
        if chosen := shown.get("best") or shown.get("last"):
            packages = untrusted_packages(self.model.config)
            allow = f" --allow {','.join(packages)}" if packages else ""
            samples, pattern = shlex.quote(f"{shown['run']}/samples"), shlex.quote(f"{shown['run']}/checkpoints/*.ckpt")
            print("\nGo on with")
            print(f"  lightning_gen sample --ckpt_path {shlex.quote(chosen)} --num 64 --output {samples}{allow}")
            if any(isinstance(callback, Evaluation) for callback in trainer.callbacks):  # type: ignore[attr-defined]
                print(f"  lightning_gen evaluate --ckpt_path {pattern}{allow}")


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration to the run's folder once, when training starts."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A resumed run keeps the first `config.yaml` and adds its own beside it."""
        if stage != "fit" or self.already_saved:
            return
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / "config.yaml"
            number = 1
            while path.exists():
                path, number = folder / f"config_resumed_{number}.yaml", number + 1
            self.parser.save(self.config, path, skip_none=False, multifile=False)
        self.already_saved = True


def main(args: list[str]) -> None:
    """Run `fit`, `validate`, `test` or `predict`, or print shell completion."""
    for message in _QUIET:
        warnings.filterwarnings("ignore", message)
    for handler in logging.getLogger("lightning.pytorch").handlers:
        handler.addFilter(lambda record: not record.getMessage().startswith(_QUIET_LOG))
    set_parsing_settings(add_print_completion_argument=True)
    torch.set_float32_matmul_precision("highest")
    if args[0].startswith("--print_completion"):
        complete_shallowly()
        Command(args, NamedStrategyTrainer)
    check_files(args)
    path = option(args, "--ckpt_path")
    if path in (None, "last", "best") or option(args, "--config") or option(args, "-c"):
        Command(args)
        return
    # the checkpoint's configuration stands for the file that is not given
    allow = option(args, "--allow") or ""
    config = configuration(read_checkpoint(path, mmap=True), path, allow)
    with only_trusted(allow):
        Command([args[0], f"--config={json.dumps(config)}", *args[1:]])


def _relative(path: str | Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
