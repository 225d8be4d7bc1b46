"""Densities without networks: uniform, naive Bayes, normal, mixtures of normal distributions.

Every table of likelihoods needs its lower rungs: what a model of nothing, of single entries, and of covariances scores.
Most are estimated in closed form or by expectation-maximisation, from sums over the training set.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_gen.conditions import check_given
from lightning_gen.data.loader import TrainLoader
from lightning_gen.densities import Density, Estimator, ExpectationMaximisation
from lightning_gen.density_model import DensityModel
from lightning_gen.dequantisation import Dequantisation
from lightning_gen.errors import UserError
from lightning_gen.losses.processes import from_rank_zero
from lightning_gen.model import Batch, Terms
from lightning_gen.noise import Noise, sample_seeds
from lightning_gen.precision import check_precision, exact, full

if TYPE_CHECKING:
    from lightning_gen.data import DataModule

_MOST_ATTRIBUTES = 10


class DensityBaseline(DensityModel):
    """A density p(x | y) that is estimated from sums over the training set, or by gradients.

    A step is a batch, as in every family. `ExpectationMaximisation` adds what it gives to its sums, and changes
    parameters with the last batch of an epoch; what is logged as `loss` is that of the parameters before.

    Args:
        sample_shape: of one sample, such as [1, 8, 8].
        density: makes p(x | y) from the shape of a sample and the number of classes, None without.
        estimator: of its parameters; None for `ExpectationMaximisation()`.
        dequantisation: of discrete data whose densities are modelled; None where the density is of discrete values, or
            the data are continuous.
        num_classes: number of classes, or of attributes, that samples are conditioned on, each with a density of its
            own, or each combination of attributes; None for none.
        attributes: names of the attributes that samples are conditioned on, at most 10; None for classes, or nothing.

    Raises:
        UserError: if the estimator cannot estimate the density, a density of discrete values is given others, or there
            are too many attributes; at set-up, if the data do not fit the density.
    """

    started: Tensor

    def __init__(
        self,
        sample_shape: list[int],
        density: Callable[[tuple[int, ...], int | None], Density],
        estimator: Estimator | None = None,
        dequantisation: Dequantisation | None = None,
        num_classes: int | None = None,
        attributes: list[str] | None = None,
    ) -> None:
        estimator = estimator or ExpectationMaximisation()
        super().__init__(
            sample_shape,
            dequantisation,
            optimizer=estimator.optimizer,
            scheduler=estimator.scheduler,
            num_classes=num_classes,
            attributes=attributes,
        )
        if attributes is not None and len(attributes) > _MOST_ATTRIBUTES:
            raise UserError(
                f"model.init_args.attributes has {len(attributes)} names, each combination of which gets a density of"
                f" its own: use {_MOST_ATTRIBUTES} at most"
            )
        num_tables = num_classes if attributes is None else 2 ** len(attributes)
        self.density = density(self.sample_shape, num_tables)
        self.estimator = estimator
        self.automatic_optimization = estimator.automatic
        self.register_buffer("started", torch.tensor(False))
        self._rest: Batch | None = None
        self._check_parts()
        estimator.prepare(self.density)

    def _check_parts(self) -> None:
        if self.dequantisation is None:
            return
        name = type(self.dequantisation).__name__
        if self.density.gives_probabilities:
            raise UserError(
                f"model.init_args.dequantisation is {name}, but {type(self.density).__name__} is of discrete values:"
                " leave it out"
            )
        if not self.estimator.automatic and any(p.requires_grad for p in self.dequantisation.parameters()):
            raise UserError(
                f"model.init_args.dequantisation is {name}, which is learnt by gradients, but estimator is"
                f" {type(self.estimator).__name__}: use UniformDequantisation, or the estimator GradientDescent"
            )

    # ---------------------------------------------------------------- the density

    @property
    def discrete(self) -> bool:
        """Whether the density is of discrete values, or of what dequantisation makes of them."""
        return self.density.gives_probabilities or super().discrete

    def log_p(self, x: Tensor, y: Tensor | None) -> Tensor:
        """The density's (B,) nats, in 32 bits or more under autocast too."""
        with exact(x):
            return self.density.log_prob(full(x), self.classes_of(y))

    def draw_values(self, noise: Noise, y: Tensor | None) -> Tensor:
        """The density's draws."""
        return self.density.draw(noise, self.classes_of(y))

    def classes_of(self, y: Tensor | None) -> Tensor | None:
        """(B,) int64: which density samples come from; of attributes, the number whose binary digits they are."""
        if self.num_classes is None:
            return None
        check_given(y, type(self).__name__)
        assert y is not None
        if y.ndim == 1:
            return y
        return (y.long() << torch.arange(y.shape[1], device=y.device)).sum(1)

    # ---------------------------------------------------------------- the step

    def loss(self, batch: Batch) -> tuple[Tensor, Terms]:
        """−log p(x | y) in nats a sample, or its bound; the estimator may add the batch to its sums."""
        y = self.classes_of(self.condition_of(batch))
        draws = self.estimator.num_draws if self.dequantisation is not None else 1
        losses = [self.estimator.loss(self.density, *self.values_of(batch["x"], None), y) for _ in range(draws)]
        return torch.stack(losses).mean(), {}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The loss; without gradients, a step that is counted, and the end of an epoch with its last batch."""
        loss = super().training_step(batch, batch_idx)
        if self.automatic_optimization:
            return loss
        if batch_idx + 1 == self.trainer.num_training_batches:
            if self._rest is not None:
                self.loss(self._rest)
            self.estimator.end_epoch(self.density)
        self.optimizers().step()  # type: ignore[union-attr]
        return {"loss": loss}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Before an epoch's last batch, fetch what fills no step, for estimators that take all samples."""
        super().on_train_batch_start(batch, batch_idx)
        if not self.automatic_optimization and batch_idx + 1 == self.trainer.num_training_batches:
            self._rest = self._left_out()

    def _left_out(self) -> Batch | None:
        """Samples that fill no step are part of an epoch, too, unless the trainer cuts it short."""
        loader, data = self.trainer.train_dataloader, getattr(self.trainer, "datamodule", None)
        if not isinstance(loader, TrainLoader) or data is None or self.trainer.num_training_batches < len(loader):
            return None
        batch = loader.left_out()
        if batch is None:
            return None
        moved = {name: value.to(self.device) for name, value in batch.items()}
        return data.on_after_batch_transfer(moved, 0)

    # ---------------------------------------------------------------- set-up

    def setup(self, stage: str) -> None:
        """Refuse scaled gradients where there are none, too."""
        if not self.automatic_optimization:
            check_precision(self.trainer.precision, ("32-true", "bf16-mixed", "64-true"))
        super().setup(stage)

    def check_values(self, x: Tensor) -> None:
        """Of discrete data their levels, of others, and of what dequantisation makes, what the density says."""
        super().check_values(x)
        self.density.check(self.values_of(x, Noise(sample_seeds(0, torch.arange(len(x))), self.device))[0])

    def on_fit_start(self) -> None:
        """Let the density begin from some training samples, unless a checkpoint tells."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if data is not None and self.density.start_rows and not bool(self.started):
            self._start(data)
            self.started.fill_(True)

    @torch.no_grad()
    def _start(self, data: "DataModule") -> None:
        """Every process draws the same samples; the parameters are rank zero's."""
        assert self.seed is not None
        generator = torch.Generator().manual_seed(self.seed % 2**63)
        rows = data.split("train")
        index = torch.randperm(len(rows), generator=generator)[: self.density.start_rows].sort().values
        batch = {name: value.to(self.device) for name, value in rows[index].items()}
        batch = data.on_after_batch_transfer(batch, 0)
        x, _ = self.values_of(batch["x"], Noise(sample_seeds(self.seed, index), self.device))
        self.density.start(x, self.classes_of(self.condition_of(batch)), generator)
        for parameter in self.density.parameters():
            parameter.copy_(from_rank_zero(parameter))
