"""Data parallelism for models that step several optimisers by hand.

`DistributedDataParallel` reduces gradients while they are made and expects every parameter to take part in every
backward pass, which no adversarial step satisfies. Here nothing happens until an optimiser steps: then its gradients
are averaged over the processes in one flat all-reduce (as StyleGAN's training loops do). Double backward, several
critic updates, accumulation and parameters that rest all work, because the graph is never touched.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor, nn
from torch.optim import Optimizer


class FlatReduceStrategy(DDPStrategy):
    """One process a device; gradients are averaged once an optimiser step, when it is taken.

    Training equals that of one process on the concatenated batch, batch statistics aside. Floating-point buffers
    (running statistics) of modules in training mode are averaged with the gradients, so that all ranks hold the same
    model; those of modules in evaluation mode, such as a frozen first stage, are left as they are, bit for bit.
    Registered as `flat_reduce` (and `flat_reduce_spawn` for Python sessions without a script).
    """

    def configure_ddp(self) -> None:
        """Give every process rank zero's weights; the model stays unwrapped."""
        assert isinstance(self.model, nn.Module)
        for tensors in _by_kind((*self.model.parameters(), *self.model.buffers())):
            flat = _flatten(tensors)
            dist.broadcast(flat, src=0)
            _copy(tensors, flat)

    def optimizer_step(self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        """Average the optimiser's gradients over the processes, then step."""

        def closure_and_reduce() -> Any:
            result = closure()
            self.average(optimizer)
            return result

        return super().optimizer_step(optimizer, closure_and_reduce, model, **kwargs)

    def average(self, optimizer: Optimizer) -> None:
        """Replace gradients, and running statistics beside them, by their means over the processes."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        assert isinstance(self.model, nn.Module)
        training = (module for module in self.model.modules() if module.training)
        held = {id(b): b for module in training for b in module.buffers(recurse=False) if b.is_floating_point()}
        for tensors in _by_kind((*gradients, *held.values())):
            flat = _flatten(tensors)
            dist.all_reduce(flat)
            _copy(tensors, flat.div_(dist.get_world_size()))

    @classmethod
    def register_strategies(cls, strategy_registry: Any) -> None:
        """Add the names that `--trainer.strategy` takes."""
        for name, start_method in (("flat_reduce", "popen"), ("flat_reduce_spawn", "spawn")):
            description = "One flat all-reduce an optimiser step, for adversarial models"
            strategy_registry.register(name, cls, description=description, override=True, start_method=start_method)


def _by_kind(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group tensors of one type and device, in an order that all processes share."""
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())


def _flatten(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


@torch.no_grad()
def _copy(tensors: list[Tensor], flat: Tensor) -> None:
    parts = flat.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])


FlatReduceStrategy.register_strategies(StrategyRegistry)
