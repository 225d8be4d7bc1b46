"""`AdversarialCodesModel`: what families share whose codes are moved onto a prior by a discriminator of codes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_gen.adversarial import AdversarialModel, frozen
from lightning_gen.code_matching import CodeMatchingModel
from lightning_gen.model import Batch, Terms
from lightning_gen.optimizers import make_optimizers


class AdversarialCodesModel(CodeMatchingModel, AdversarialModel, ABC):
    """Each step has the phases of Makhzani et al. (2015, §2): a family writes their three losses.

    1. reconstruction: encoder and decoder learn to reconstruct samples;
    2. the discriminator learns to tell draws from the prior, which are real, from codes (`num_critic_steps` times);
    3. regularisation: the encoder learns to make codes that it takes for draws.

    Each phase has an optimiser of its own; the last phase's counts the steps.

    Args:
        *args: of `LatentVariableModel`.
        optimizers: make the optimisers of the three phases from the parameters that learn in them.
        schedulers: make their learning rate schedules, stepped once a step; None for a constant rate.
        **kwargs: of `LatentVariableModel` and `AdversarialModel`.
    """

    def __init__(
        self,
        *args: Any,
        optimizers: tuple[Callable[..., Optimizer], ...],
        schedulers: tuple[Callable[..., Any] | None, ...],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer_factories = optimizers
        self.scheduler_factories = schedulers

    @abstractmethod
    def reconstruction_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Of phase 1: the loss of a batch, and its terms."""

    @abstractmethod
    def discriminator_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Of phase 2; the encoder needs no gradient."""

    @abstractmethod
    def encoder_loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Of phase 3; the discriminator is frozen."""

    @property
    @abstractmethod
    def discriminator_parts(self) -> list[nn.Module]:
        """What learns in phase 2."""

    @property
    def encoder_parts(self) -> list[nn.Module]:
        """What makes codes of samples, and learns in phase 3."""
        return [self.encoder, self.posterior]

    def training_step(self, batch: Batch, batch_idx: int) -> Terms:
        """The three phases, all on the same samples."""
        updates, logs = self.split_step(batch), self.logs_this_step
        autoencoder_optimizer, discriminator_optimizer, encoder_optimizer, *_ = self.optimizers()  # type: ignore[attr-defined]
        terms = self.backward_mean(autoencoder_optimizer, updates[-1], self.reconstruction_loss)
        self.step_uncounted(autoencoder_optimizer)
        for batches in updates:
            terms |= self.backward_mean(discriminator_optimizer, batches, self.discriminator_loss)
            self.step_uncounted(discriminator_optimizer)
        with frozen(nn.ModuleList(self.discriminator_parts)):
            terms |= self.backward_mean(encoder_optimizer, updates[-1], self.encoder_loss)
        self.step_counted(encoder_optimizer)
        if logs:
            self.log_dict(terms, prog_bar=True, batch_size=len(batch["x"]))
        return terms

    def configure_optimizers(self) -> Any:
        """Of the three phases in turn."""
        phases = (
            nn.ModuleList([*self.encoder_parts, self.decoder, self.likelihood]),
            nn.ModuleList(self.discriminator_parts),
            nn.ModuleList(self.encoder_parts),
        )
        return make_optimizers(*zip(phases, self.optimizer_factories, self.scheduler_factories, strict=True))
