"""What samples are conditioned on: nothing, a class, or attributes."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError, nearest
from lightning_gen.noise import Noise

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

_KEPT_ROWS = 1024
"""Rows of attributes of the training data that a model remembers, to draw from."""


class Condition(nn.Module, ABC):
    """How the `y` of samples is drawn, checked and shown. A module, so that what it has learnt is in checkpoints."""

    @abstractmethod
    def draw(self, noise: Noise, y: Tensor | None) -> Tensor | None:
        """The condition of samples: drawn from each sample's own stream, or what is asked for.

        The stream goes on from the same place either way.

        Raises:
            UserError: if what is asked for does not exist.
        """

    @abstractmethod
    def check_data(self, data: "DataModule", labelled: bool) -> None:
        """Raise `UserError` if `data` cannot train a model with this condition, whose `y` it needs if `labelled`."""

    def learn(self, data: "DataModule") -> None:
        """Take from training data what `draw` needs."""

    def blank(self, rows: int, device: torch.device) -> Tensor | None:
        """A `y` of `rows` rows, to try networks with."""
        return None

    def one_each(self, num: int) -> Tensor | None:
        """A `y` for about `num` samples that shows each condition equally often, or None where there are none."""
        return None


class Unconditional(Condition):
    """There is no `y`."""

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor | None:
        """None."""
        if y is not None:
            raise UserError(
                "classes were asked for, but the model is unconditional: train one whose networks have num_classes"
            )
        return None

    def check_data(self, data: "DataModule", labelled: bool) -> None:
        """Any data will do."""


class Classes(Condition):
    """`y` (n,) int64, drawn uniformly.

    Args:
        num_classes: K, ≥ 1.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor | None:
        """(n,) int64 classes."""
        drawn = noise.integers(self.num_classes)  # always drawn, so that giving y leaves the rest of the noise alone
        if y is None:
            return drawn
        if y.ndim != 1 or y.is_floating_point():
            raise UserError("the model is conditioned on classes: give one whole number a sample")
        if y.numel() and (int(y.min()) < 0 or int(y.max()) >= self.num_classes):
            absent = ", ".join(str(c) for c in y.unique().tolist() if not 0 <= c < self.num_classes)
            raise UserError(f"class {absent} does not exist: the model knows classes 0 to {self.num_classes - 1}")
        return y.to(noise.device)

    def check_data(self, data: "DataModule", labelled: bool) -> None:
        """There must be as many classes as the model draws from."""
        if not labelled:
            return
        if data.num_classes is None:
            raise UserError(
                f"the model is conditioned on {self.num_classes} classes (num_classes) but data has none: remove the"
                " key from model, or use labelled data"
            )
        if data.attribute_names is not None:
            raise UserError(
                f"the model is conditioned on {self.num_classes} classes but data has attributes: name them in"
                f" model.init_args.attributes, [{', '.join(data.attribute_names)}]"
            )
        if data.num_classes != self.num_classes:
            raise UserError(
                f"data has {data.num_classes} classes but the model knows {self.num_classes}: set the num_classes of"
                f" its networks to {data.num_classes}"
            )

    def blank(self, rows: int, device: torch.device) -> Tensor:
        """Class 0."""
        return torch.zeros(rows, dtype=torch.int64, device=device)

    def one_each(self, num: int) -> Tensor:
        """As many of each class, at least one."""
        return torch.arange(self.num_classes).repeat_interleave(max(num // self.num_classes, 1))


class Attributes(Condition):
    """`y` (n, K) in {0, 1}, drawn as they occur together in the training data.

    Args:
        names: of the K attributes, in the order of the data's columns.

    Raises:
        UserError: if there are none, or one twice.
    """

    rows: Tensor

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        if not names or len(set(names)) < len(names):
            raise UserError(f"model.init_args.attributes is {names}: give each attribute's name, once")
        self.names = list(names)
        self.register_buffer("rows", torch.zeros(_KEPT_ROWS, len(names), dtype=torch.uint8))

    def draw(self, noise: Noise, y: Tensor | None) -> Tensor:
        """(n, K) float32; entries of `y` below 0 stay as drawn."""
        drawn = self.rows[noise.integers(_KEPT_ROWS)].float()
        if y is None:
            return drawn
        if y.ndim == 1:
            raise UserError(
                f"classes were asked for, but the model is conditioned on attributes: {', '.join(self.names)}"
            )
        if y.ndim != 2 or y.shape[1] != len(self.names):
            raise UserError(
                f"the model is conditioned on {len(self.names)} attributes ({', '.join(self.names)}): give a row of as"
                f" many numbers for each sample instead of {tuple(y.shape)}"
            )
        y = y.to(drawn)
        if bool(((y > 0) & (y != 1)).any()):
            raise UserError("attributes are 1 where present, 0 where absent, and below 0 where they are to be drawn")
        return torch.where(y < 0, drawn, y)

    def check_data(self, data: "DataModule", labelled: bool) -> None:
        """The same attributes, in the same order."""
        if labelled and data.attribute_names != self.names:
            found = "none" if data.attribute_names is None else f"[{', '.join(data.attribute_names)}]"
            raise UserError(
                f"model.init_args.attributes is [{', '.join(self.names)}] but data has {found}: make them equal, in the"
                " same order"
            )

    def learn(self, data: "DataModule") -> None:
        """Remember rows of the training data, evenly spaced."""
        rows = data.split("train")
        index = torch.linspace(0, len(rows) - 1, _KEPT_ROWS, dtype=torch.float64).round().to(torch.int64)
        assert rows.y is not None
        self.rows.copy_(rows.y[index])

    def blank(self, rows: int, device: torch.device) -> Tensor:
        """No attribute."""
        return torch.zeros(rows, len(self.names), device=device)

    def wanted(self, text: str) -> Tensor:
        """A row of `y` from words such as `Smiling,-Male`: present, absent, and all others to be drawn.

        Returns:
            (K,) float32 of 1, 0 and −1.

        Raises:
            UserError: for a name that the model does not know.
        """
        row = torch.full((len(self.names),), -1.0)
        for word in filter(None, (part.strip() for part in text.split(","))):
            name = word.lstrip("+-")
            if name not in self.names:
                raise UserError(
                    f"--attributes names {name!r}{nearest(name, self.names)}; the model knows {', '.join(self.names)}"
                )
            wanted, k = 0.0 if word.startswith("-") else 1.0, self.names.index(name)
            if row[k] == 1 - wanted:
                raise UserError(f"--attributes asks for samples with and without {name}: leave one of them out")
            row[k] = wanted
        return row


def condition(num_classes: int | None, attributes: list[str] | None) -> Condition:
    """The condition of a model whose networks know `num_classes` classes, or as many attributes.

    Raises:
        UserError: if names and number of attributes differ.
    """
    if attributes is not None:
        if num_classes != len(attributes):
            raise UserError(
                f"model.init_args.attributes has {len(attributes)} names but the networks' num_classes is"
                f" {num_classes}: set that to {len(attributes)}"
            )
        return Attributes(attributes)
    return Unconditional() if num_classes is None else Classes(num_classes)


def check_given(y: Tensor | None, asker: str) -> None:
    """Raise `UserError` where a conditional model is given no `y` for samples that are there already.

    Args:
        y: what is given.
        asker: what was called, for the message.
    """
    if y is None:
        raise UserError(
            f"{asker} needs y, as the model is conditional: give one class, or one row of attributes, a sample"
        )
