"""What happens every so many validations, also across a resume."""

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_gen.errors import UserError


class AtValidations(Callback, ABC):
    """Acts at the first validation and at every `every_n_validations`-th after it.

    Args:
        every_n_validations: validations from one action to the next, ≥ 1.
    """

    def __init__(self, every_n_validations: int = 1) -> None:
        if every_n_validations < 1:
            name = type(self).__name__
            raise UserError(f"{name}.every_n_validations is {every_n_validations}: it must be at least 1")
        self.every_n_validations = every_n_validations
        self.validations = 0

    @abstractmethod
    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do it; called on every rank, while averaged weights are in place."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Act when due; Lightning's check before training does not count."""
        if trainer.sanity_checking:
            return
        due = self.validations % self.every_n_validations == 0
        self.validations += 1
        if due:
            self.act(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """How many validations there were."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the rhythm of the run that is resumed."""
        self.validations = state_dict["validations"]
