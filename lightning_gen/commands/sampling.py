"""How `sample` and `evaluate` draw from a trained model where the command line asks for another way."""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lightning_gen.checkpoints import instantiate
from lightning_gen.errors import UserError
from lightning_gen.guidance import Guidance
from lightning_gen.model import GenerativeModel
from lightning_gen.samplers import HasSampler


@runtime_checkable
class Guided(Protocol):
    """A model whose samples are drawn towards their condition."""

    guidance: Guidance | None

    def check_guidance(self, guidance: Guidance) -> None:
        """Raise `UserError` if the model cannot be guided so."""


@runtime_checkable
class StandsStill(Protocol):
    """A model whose running statistics can be made anew."""

    def standing_statistics(self, num_batches: int, batch_size: int = 64, seed: int = 0) -> None:
        """Replace them; see `lightning_gen.two_player.TwoPlayerModel`."""


@dataclass(frozen=True)
class Sampling:
    """What the command line asks for.

    Attributes:
        sampler: `{class_path, init_args}` of a sampler of the kind that the model takes; None for its own.
        guidance: the same of a guidance.
        standing_statistics: batches to make running statistics anew from; 0 for those of training.
    """

    sampler: dict[str, Any] | None = None
    guidance: dict[str, Any] | None = None
    standing_statistics: int = 0

    def apply(self, model: GenerativeModel) -> None:
        """Set the model up; it is on its device, with the weights it is sampled with.

        Raises:
            UserError: if the model cannot be sampled so.
        """
        if self.sampler is not None:
            if not isinstance(model, HasSampler):
                raise UserError(f"--sampler: there is but one way to draw from {type(model).__name__}: leave it out")
            sampler = instantiate(model.sampler_kind, self.sampler, name="sampler")
            model.check_sampler(sampler)
            model.sampler = sampler
        if self.guidance is not None:
            if not isinstance(model, Guided):
                raise UserError(f"--guidance: samples of {type(model).__name__} cannot be guided: leave it out")
            guidance = instantiate(Guidance, self.guidance, name="guidance")
            model.check_guidance(guidance)
            model.guidance = guidance
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
        for name, part in (("sampler", self.sampler), ("guidance", self.guidance)):
            if part is not None:
                told[name] = json.dumps(part, sort_keys=True)
        if self.standing_statistics:
            told["standing_statistics"] = self.standing_statistics
        return told
