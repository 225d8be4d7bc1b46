"""How `sample` and `evaluate` draw from a trained model where the command line asks for another way."""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lightning_gen.checkpoints import instantiate
from lightning_gen.errors import UserError
from lightning_gen.model import GenerativeModel
from lightning_gen.samplers import LatentSampler


@runtime_checkable
class DrawsLatents(Protocol):
    """A model that is sampled from latents."""

    sampler: LatentSampler


@runtime_checkable
class StandsStill(Protocol):
    """A model whose running statistics can be made anew."""

    def standing_statistics(self, num_batches: int, batch_size: int = 64, seed: int = 0) -> None:
        """Replace them; see `lightning_gen.two_player.TwoPlayerModel`."""


@dataclass(frozen=True)
class Sampling:
    """What the command line asks for.

    Attributes:
        sampler: `{class_path, init_args}` of a sampler of latents; None for the model's own.
        standing_statistics: batches to make running statistics anew from; 0 for those of training.
    """

    sampler: dict[str, Any] | None = None
    standing_statistics: int = 0

    def apply(self, model: GenerativeModel) -> None:
        """Set the model up; it is on its device, with the weights it is sampled with.

        Raises:
            UserError: if the model cannot be sampled so.
        """
        if self.sampler is not None:
            if not isinstance(model, DrawsLatents):
                raise UserError(f"--sampler is about models with latents, which {type(model).__name__} is not")
            model.sampler = instantiate(LatentSampler, self.sampler, name="sampler")
        if self.standing_statistics < 0:
            raise UserError(f"--standing_statistics is {self.standing_statistics}: it counts batches, 0 for none")
        if self.standing_statistics:
            if not isinstance(model, StandsStill):
                raise UserError(
                    f"--standing_statistics: {type(model).__name__} has no batch norm to renew: leave it out"
                )
            model.standing_statistics(self.standing_statistics)

    def protocol(self) -> dict[str, Any]:
        """What a number's protocol says of it: nothing where nothing was asked for."""
        told: dict[str, Any] = {}
        if self.sampler is not None:
            told["sampler"] = json.dumps(self.sampler, sort_keys=True)
        if self.standing_statistics:
            told["standing_statistics"] = self.standing_statistics
        return told
