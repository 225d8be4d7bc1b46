"""`GenerativeModel`: the one contract that every family keeps."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_gen.conditions import condition
from lightning_gen.errors import UserError
from lightning_gen.held_out import HeldOutMeans
from lightning_gen.noise import Noise, sample_seeds, seed_generators, step_seed
from lightning_gen.sample_shapes import differing_keys

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

Batch = dict[str, Tensor]
"""`x` is what is generated, `y` (optional) what it is conditioned on."""

Terms = dict[str, Tensor]
"""Scalars to log, by name."""


class GenerativeModel(HeldOutMeans, ABC):
    """A model one can train and draw samples from.

    A family implements `generate`, `training_step` and `configure_optimizers`; what it learns from is `batch["x"]`,
    conditioned on `batch["y"]` when `num_classes` is set.

    Args:
        num_classes: number of classes, or of attributes, that samples are conditioned on; None for none.
        compile: names of submodules to hand to `torch.compile`, such as `[generator]`.
        attributes: names of the attributes that samples are conditioned on; None for classes, or nothing.

    Attributes:
        config: the resolved configuration of the run (`model`, `data`, `trainer`, plain values only); set by the
            command line and kept in every checkpoint, so that a checkpoint rebuilds its model by itself.
        batches_per_step: how many batches of data one step consumes; the data module multiplies its rows by it.
        condition: how `y` is drawn, checked and shown.
        seed: what every random number of training derives from, together with the step and the rank.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        compile: list[str] | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.condition = condition(num_classes, attributes)
        self.compiled = list(compile or [])
        self.config: dict[str, Any] | None = None
        self.seed: int | None = None

    @property
    def batches_per_step(self) -> int:
        """How many batches of data one step consumes."""
        return 1

    @property
    def draws_classes(self) -> bool:
        """Whether the classes of training are drawn uniformly, instead of taken from the data."""
        return False

    @property
    def sized_parts(self) -> tuple[str, ...]:
        """Networks whose arguments hold the sizes of a sample, for messages; each is a key of `init_args`, too."""
        return ()

    # ---------------------------------------------------------------- sampling

    @abstractmethod
    def generate(self, noise: Noise, y: Tensor | None) -> Tensor:
        """Turn noise into samples.

        Args:
            noise: one stream of random numbers a sample, on the device of the model.
            y: (n,) int64 classes, (n, K) attributes, or None for an unconditional model.

        Returns:
            (n, …) samples in the form of `x` (images: float in [-1, 1]).
        """

    def sample(self, n: int, y: Tensor | None = None, *, seeds: Tensor | None = None) -> Tensor:
        """Draw `n` samples, in evaluation mode and without gradients.

        Sample *i* depends on `seeds[i]` and `y[i]` alone, whatever the batch size and the number of processes.

        Args:
            n: number of samples.
            y: (n,) int64 classes, or (n, K) attributes in {0, 1}, those below 0 to be drawn; all drawn from each
                sample's own stream when None.
            seeds: (n,) int64, one a sample (see `lightning_gen.noise.sample_seeds`); drawn from torch's global
                generator when None.

        Returns:
            (n, …) samples in the form of `x`, on the device of the model.

        Raises:
            UserError: if classes are asked of an unconditional model, or do not exist.
        """
        return self.draw(n, y, seeds=seeds)["x"]

    @torch.no_grad()
    def draw(self, n: int, y: Tensor | None = None, *, seeds: Tensor | None = None) -> Batch:
        """As `sample`, with the classes that samples were drawn for beside them.

        Returns:
            `x`, (n, …) samples, and for a conditional model `y`, (n,) or (n, K), on the device of the model.
        """
        if seeds is None:
            seeds = torch.randint(2**63 - 1, (n,))
        for name, given in (("seeds", seeds), ("y", y)):
            if given is not None and len(given) != n:
                raise UserError(f"sample was asked for {n} samples but given {len(given)} {name}: give one a sample")
        noise = Noise(seeds, self.device)
        y = self.condition.draw(noise, y)
        with evaluating(self):
            x = self.generate(noise, y)
        return {"x": x} if y is None else {"x": x, "y": y}

    # ---------------------------------------------------------------- set-up

    def setup(self, stage: str) -> None:
        """Check that model and data fit each other, and compile what was asked for, before anything is trained."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check_data(data)
            if stage == "fit":
                self.condition.learn(data)
        for name in self.compiled if stage == "fit" else ():
            self._submodule(name).compile()  # in place: torch.compile(module) would rename the checkpoint's keys

    def check_data(self, data: "DataModule") -> None:
        """Raise `UserError` if `data` cannot train this model: shapes or classes that disagree. Families extend it."""
        made, wanted = self.made_shape(), tuple(data.sample_shape)
        if made != wanted:
            keys = differing_keys(self, self.sized_parts, made, wanted)
            raise UserError(f"the model makes samples of shape {made} but data gives {wanted}: {keys}")
        self.condition.check_data(data, not self.draws_classes)

    def made_shape(self) -> tuple[int, ...]:
        """Shape of a sample, found by drawing some; overridden where that would cost much."""
        return tuple(self.sample(2, seeds=sample_seeds(0, torch.arange(2))).shape[1:])

    def condition_of(self, batch: Batch) -> Tensor | None:
        """`y` of a training batch in the form that the networks take: (B,) int64, (B, K), or None."""
        if self.num_classes is None:
            return None
        if self.draws_classes:
            return torch.randint(self.num_classes, (len(batch["x"]),), device=batch["x"].device)
        y = batch["y"]
        return y.to(batch["x"].dtype) if y.is_floating_point() else y

    def _submodule(self, name: str) -> nn.Module:
        try:
            return self.get_submodule(name)
        except AttributeError:
            names = ", ".join(child for child, _ in self.named_children())
            raise UserError(
                f"model.init_args.compile names {name!r}, which is not a submodule: use any of {names}"
            ) from None

    @property
    def logs_this_step(self) -> bool:
        """Whether the logger takes values in the step that is under way."""
        trainer = self._trainer  # None outside a run, where a loss may be evaluated too
        return trainer is not None and every(self.global_step + 1, trainer.log_every_n_steps)  # type: ignore[attr-defined]

    # ---------------------------------------------------------------- randomness

    def on_fit_start(self) -> None:
        """Fix the seed of the run: the checkpoint's when resuming, else the one given to `seed_everything`."""
        if self.seed is None:
            self.seed = self.trainer.strategy.broadcast(torch.initial_seed())

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed the step: noise depends on (seed, step, rank) only, so ranks differ and a resumed run does not."""
        assert self.seed is not None
        parts = self.trainer.accumulate_grad_batches  # 1 where the model accumulates by itself
        step = self.global_step * parts + batch_idx % parts
        seed_generators(step_seed(self.seed, step, self.global_rank), self.device)

    # ---------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the configuration and the seed beside the weights."""
        checkpoint["config"] = self.config
        checkpoint["seed"] = self.seed

    def portable(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration as checkpoints carry it, which may name no other checkpoint; as it is unless overridden.

        Args:
            config: the resolved configuration of the run, see `config`; left as it is.
        """
        return config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the seed, and refuse another architecture's weights in one sentence."""
        self.seed = checkpoint.get("seed")
        check_state_dict(self, checkpoint["state_dict"])

    # ---------------------------------------------------------------- Lightning's other loops

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Samples for the batch's `seeds`: (n, …) in the form of `x`."""
        seeds = batch["seeds"]
        return self.sample(len(seeds), batch.get("y"), seeds=seeds)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards the mode that each submodule had."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


def every(step: int, interval: int) -> bool:
    """Whether something with an interval is due at a step; never where the interval is 0."""
    return interval > 0 and step % interval == 0


def check_state_dict(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Raise `UserError` when `state` does not have the names and shapes of `model`'s own state.

    Args:
        model: the module to be loaded into.
        state: a checkpoint's `state_dict`.
    """
    own = model.state_dict()
    missing, unknown = own.keys() - state.keys(), state.keys() - own.keys()
    if missing or unknown:
        example = sorted(missing)[0] if missing else sorted(unknown)[0]
        raise UserError(
            f"the checkpoint is of another architecture: {len(missing)} tensors of the configured model are missing in"
            f" it and {len(unknown)} are unknown, for instance {example!r}; use the configuration it was trained with"
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise UserError(
                f"the checkpoint is of another shape: {name!r} is {tuple(state[name].shape)} in it and"
                f" {tuple(tensor.shape)} in the configured model; use the configuration it was trained with"
            )
