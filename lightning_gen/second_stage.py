"""`SecondStageModel`: what families share that learn the latents of a model trained before, the first stage.

A second stage's checkpoint is complete: it holds the first stage's weights among its own, and in its configuration the
first stage's own, in place of the path that was given.
"""

from abc import ABC
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor

from lightning_gen.abilities import require
from lightning_gen.checkpoints import Weights, load
from lightning_gen.conditions import Attributes
from lightning_gen.errors import UserError
from lightning_gen.files import last_checkpoint
from lightning_gen.model import GenerativeModel
from lightning_gen.one_loss import OneLossModel
from lightning_gen.trust import check_open

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

WHERE = "model.init_args.first_stage"


def open_first_stage(
    given: str | GenerativeModel, sample_shape: list[int] | None, weights: Weights, ability: type, verb: str
) -> tuple[GenerativeModel, tuple[int, ...]]:
    """The first stage, from its checkpoint or as it is.

    Args:
        given: a checkpoint that `fit` wrote, the folder of its runs for the newest one's last, or the model itself,
            whose weights come later.
        sample_shape: of one sample; a checkpoint's data tell it.
        weights: `ema` for averaged weights where the checkpoint has them; `raw` for those that were trained.
        ability: protocol of `lightning_gen.abilities` that the model must have.
        verb: the same in words.

    Returns:
        The model and the shape of a sample.

    Raises:
        UserError: if there is no such checkpoint, or a checkpoint's model asks for one; if the model lacks the ability
            or is a second stage itself, its data have another shape, or a model comes without a shape.
    """
    if isinstance(given, str):
        told = f"{WHERE} is {given!r}"
        check_open(told)
        path = last_checkpoint(Path(given)) if Path(given).is_dir() else given
        if path is None:
            raise UserError(f"{told}, but no run in that folder has a checkpoint: train the first stage before")
        if not Path(path).is_file():
            raise UserError(f"{told}, but there is no such file or folder: train the first stage before")
        try:
            model, data, _ = load(path, weights)
        except UserError as error:
            raise UserError(f"{told}: {error}") from error
        _check_stage(model, ability, f"{told}: this family", verb)
        shape = tuple(data.sample_shape)
        if sample_shape is not None and tuple(sample_shape) != shape:
            raise UserError(
                f"model.init_args.sample_shape is {list(sample_shape)} but {told}, trained on samples of shape"
                f" {list(shape)}: leave the former unset"
            )
        return model, shape
    _check_stage(given, ability, f"{WHERE}: this family", verb)
    if sample_shape is None:
        raise UserError(
            f"{WHERE} is a {type(given).__name__} instead of a checkpoint, which leaves the shape of its samples open:"
            " set model.init_args.sample_shape"
        )
    return given, tuple(sample_shape)


class SecondStageModel(OneLossModel, ABC):
    """A model of the latents of a frozen first stage, which stays in evaluation mode and is never changed.

    Args:
        first_stage: the model, from `open_first_stage`; unconditional, or conditional on the same classes.
        sample_shape: of one sample.
        num_classes: number of classes, or of attributes, that latents are conditioned on; None for none.
        **kwargs: of `OneLossModel`.

    Raises:
        UserError: if the first stage is conditioned on something else.
    """

    def __init__(
        self, first_stage: GenerativeModel, sample_shape: tuple[int, ...], num_classes: int | None, **kwargs: Any
    ) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        if first_stage.num_classes is not None and _knows(first_stage) != _knows(self):
            raise UserError(
                f"{WHERE} is conditioned on {_knows(first_stage)} but this model on {_knows(self)}: give it the same"
            )
        self.first_stage = first_stage.requires_grad_(False).eval()
        self.sample_shape = sample_shape

    def first_stage_condition(self, y: Tensor | None) -> Tensor | None:
        """What of `y` the first stage takes."""
        return None if self.first_stage.num_classes is None else y

    def train(self, mode: bool = True) -> Self:
        """The first stage stays in evaluation mode."""
        super().train(mode)
        self.first_stage.eval()
        return self

    def portable(self, config: dict[str, Any]) -> dict[str, Any]:
        """With the first stage's own configuration in place of its path."""
        stage = self.first_stage.config
        if stage is None:  # it was no path
            return config
        model = config["model"]
        replaced = {"first_stage": stage["model"], "sample_shape": list(self.sample_shape)}
        return config | {"model": model | {"init_args": model["init_args"] | replaced}}

    def check_data(self, data: "DataModule") -> None:
        """The first stage must have been trained on samples of this shape."""
        if tuple(data.sample_shape) != self.sample_shape:
            raise UserError(
                f"{WHERE} is for samples of shape {self.sample_shape} but data gives {tuple(data.sample_shape)}: use"
                " the data that it was trained on"
            )
        super().check_data(data)


def _check_stage(model: GenerativeModel, ability: type, asker: str, verb: str) -> None:
    require(model, ability, asker, verb)
    if isinstance(model, SecondStageModel):
        raise UserError(f"{asker} needs a first stage, which {type(model).__name__} is not: name its own first stage")


def _knows(model: GenerativeModel) -> str:
    """What a model is conditioned on, in words."""
    if isinstance(model.condition, Attributes):
        return f"the attributes [{', '.join(model.condition.names)}]"
    return "nothing" if model.num_classes is None else f"{model.num_classes} classes"
