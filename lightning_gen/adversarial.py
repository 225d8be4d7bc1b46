"""`AdversarialModel`: what families share whose networks are trained against each other, by manual optimisation."""

from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from lightning_gen.errors import UserError
from lightning_gen.model import Batch, GenerativeModel, Terms
from lightning_gen.precision import PRECISIONS, check_precision


class AdversarialModel(GenerativeModel, ABC):
    """A model that steps several optimisers by hand, of which one counts: its update is *the* step of the trainer.

    Args:
        num_classes: number of classes that samples are conditioned on, or None.
        num_critic_steps: updates of the critic for each counted one, ≥ 1.
        accumulate_grad_batches: batches whose gradients are averaged for one update, ≥ 1.
        gradient_clip_val: largest norm of the gradient of one optimiser's parameters; None to leave it.
        compile: names of submodules to hand to `torch.compile`.
        attributes: names of the attributes that samples are conditioned on.

    Raises:
        UserError: if a count is below 1.
    """

    def __init__(
        self,
        num_classes: int | None,
        num_critic_steps: int,
        accumulate_grad_batches: int,
        gradient_clip_val: float | None,
        compile: list[str] | None,
        attributes: list[str] | None = None,
    ) -> None:
        super().__init__(num_classes, compile, attributes)
        self.automatic_optimization = False
        self.num_critic_steps = num_critic_steps
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        for key in ("num_critic_steps", "accumulate_grad_batches"):
            if getattr(self, key) < 1:
                raise UserError(f"model.init_args.{key} is {getattr(self, key)}: it must be at least 1")
        if gradient_clip_val is not None and not gradient_clip_val > 0:
            raise UserError(f"model.init_args.gradient_clip_val is {gradient_clip_val}: it must be above 0, or null")

    def setup(self, stage: str) -> None:
        """Refuse precisions and a reducer that cannot follow the step, then check the data."""
        strategy = self.trainer.strategy
        if stage == "fit" and type(strategy) is DDPStrategy and not strategy._ddp_kwargs.get("find_unused_parameters"):
            raise UserError(
                "trainer.strategy is ddp, whose reducer waits for parameters that rest in an adversarial step: leave it"
                " at auto or set flat_reduce"
            )
        unscaled = [precision for precision in PRECISIONS if precision != "16-mixed"]
        check_precision(self.trainer.precision, unscaled if stage == "fit" else PRECISIONS)
        super().setup(stage)

    @property
    def batches_per_step(self) -> int:
        """Batches of data that one step consumes."""
        return self.num_critic_steps * self.accumulate_grad_batches

    def split_step(self, batch: Batch) -> list[list[Batch]]:
        """Share out the rows of a step: a list for each update of the critic, in it a batch for each accumulation."""
        rows, parts = len(batch["x"]), self.batches_per_step
        if rows % parts:
            raise UserError(
                f"a step's batch has {rows} rows, which {self.num_critic_steps} critic steps of"
                f" {self.accumulate_grad_batches} batches cannot share equally: make it a multiple of {parts}"
            )
        size, a = rows // parts, self.accumulate_grad_batches
        batches = [{key: value[k * size : (k + 1) * size] for key, value in batch.items()} for k in range(parts)]
        return [batches[k : k + a] for k in range(0, parts, a)]

    def backward_mean(
        self, optimizer: LightningOptimizer, batches: list[Batch], loss: Callable[[Batch], tuple[Tensor, Terms]]
    ) -> Terms:
        """Leave the mean gradient of `loss` over `batches` in the optimiser's parameters.

        Args:
            optimizer: whose gradients are cleared first.
            batches: one for each accumulation.
            loss: gives the loss of a batch, and its terms.

        Returns:
            The means of the terms, detached.
        """
        optimizer.zero_grad()
        share = 1.0 / len(batches)
        mean: Terms = {}
        for batch in batches:
            total, terms = loss(batch)
            self.manual_backward(total * share)
            mean = {key: mean.get(key, 0.0) + share * value.detach() for key, value in terms.items()}
        return mean

    def step_uncounted(self, optimizer: LightningOptimizer) -> None:
        """Step past the wrapper that counts, so that `trainer.global_step` stays where it is."""
        self.trainer.strategy.optimizer_step(optimizer.optimizer, _nothing)

    def step_counted(self, optimizer: LightningOptimizer, resting: Sequence[LightningOptimizer] = ()) -> None:
        """Step, advance `trainer.global_step` by one, and every learning rate schedule with it.

        Args:
            optimizer: whose update counts.
            resting: optimisers that have not started yet; their schedules wait for them.
        """
        optimizer.step()
        waiting = {id(each.optimizer) for each in resting}
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers] if schedulers else []:
            if id(scheduler.optimizer) not in waiting:
                scheduler.step()  # type: ignore[call-arg]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip by hand: here gradients are averaged over batches and processes, and not yet applied."""
        if self.gradient_clip_val is not None:
            clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.gradient_clip_val)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for the module's own weights; they still flow through it."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)


def _nothing() -> None:
    """A closure for optimisers whose gradients are there already."""
