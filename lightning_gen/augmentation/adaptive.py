"""How strongly to augment, from how much the discriminator overfits (Karras et al., StyleGAN2-ADA, NeurIPS 2020, §3.1).

r = E[sign D(x)] over real images x,    p ← clamp(p ± Δ),    + where r > target, - where r < target
"""

import torch
from torch import Tensor, nn

from lightning_gen.errors import UserError


class Adaptation(nn.Module):
    """Gathers signs of scores, and moves a probability every few updates; all on the device.

    What it gathers are floating-point buffers that may be averaged over processes between `observe` and `adjust`: sums
    of signs and of samples, whose ratio, and whose product with the number of processes, are then those of all.

    Args:
        owner: the name of the augmentation, for errors.
        target: the r that is aimed at, in [-1, 1].
        interval: updates of the discriminator from one move to the next, ≥ 1.
        speed_kimg: thousands of scored samples, over all processes, in which p moves by 1, > 0.

    Raises:
        UserError: if an argument is out of its range.
    """

    signs: Tensor
    samples: Tensor
    updates: Tensor

    def __init__(self, owner: str, target: float, interval: int, speed_kimg: float) -> None:
        super().__init__()
        if not -1 <= target <= 1:
            raise UserError(f"{owner}.target is {target}: it is a mean of signs and must be from -1 to 1")
        if interval < 1:
            raise UserError(f"{owner}.interval is {interval}: it counts updates and must be at least 1")
        if not speed_kimg > 0:
            raise UserError(f"{owner}.speed_kimg is {speed_kimg}: it must be above 0")
        self.target, self.interval, self.speed_kimg = target, interval, speed_kimg
        for name in ("signs", "samples", "updates"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def observe(self, scores: Tensor) -> None:
        """Add (B,) scores of real samples."""
        self.signs += scores.sign().sum()
        self.samples += scores.numel()

    @torch.no_grad()
    def adjust(self, probability: Tensor) -> None:
        """Count an update, and move the 0-dim `probability` in place if that makes `interval` of them."""
        self.updates += 1
        due = self.updates >= self.interval
        overfitting = self.signs / self.samples.clamp(min=1e-8) - self.target
        step = overfitting.sign() * self.samples * _processes() / (1000 * self.speed_kimg)
        probability.copy_(torch.where(due, (probability + step).clamp(0, 1), probability))
        for gathered in (self.signs, self.samples, self.updates):
            gathered.copy_(torch.where(due, 0.0, gathered))


def _processes() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
