"""`OneLossModel`: what families share that minimise one loss, by Lightning's automatic optimisation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lightning_gen.model import Batch, GenerativeModel, Terms
from lightning_gen.optimizers import make_optimizers
from lightning_gen.precision import check_precision


class OneLossModel(GenerativeModel, ABC):
    """A model with one loss and one optimiser; accumulation and clipping are the trainer's.

    Args:
        optimizer: makes the optimiser from the parameters that need gradients.
        scheduler: makes the learning rate schedule, stepped once a step; None for a constant rate.
        **kwargs: of `GenerativeModel`.
    """

    def __init__(
        self, optimizer: Callable[..., Optimizer], scheduler: Callable[..., Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.optimizer_factory = optimizer
        self.scheduler_factory = scheduler

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """What is minimised, the mean over a batch, and its terms to log.

        Args:
            batch: `x` (B, …), and `y` when conditional.
        """

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        total, terms = self.loss(batch)
        if self.logs_this_step:
            logged = {name: term.detach() for name, term in ({"loss": total} | terms).items()}
            self.log_dict(logged, prog_bar=True, batch_size=len(batch["x"]))
        return total

    def setup(self, stage: str) -> None:
        """Refuse weights of 16 bits, then check the data."""
        check_precision(self.trainer.precision)
        super().setup(stage)

    def configure_optimizers(self) -> Any:
        """One optimiser of all parameters, and its schedule."""
        (optimizer,), schedules = make_optimizers((self, self.optimizer_factory, self.scheduler_factory))
        found: dict[str, Any] = {"optimizer": optimizer}
        if schedules:
            found["lr_scheduler"] = {"scheduler": schedules[0], "interval": "step"}
        return found
