"""LeCam regularisation, for training on few samples."""

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.penalties.base import DiscriminatorTurn, Penalty


class LeCam(Penalty):
    """Scores near the running mean of the other kind's (Tseng et al., CVPR 2021, eq. 3).

    λ (E ‖D(x) − α_F‖² + E ‖D(x̂) − α_R‖²),  α_R and α_F the exponential moving averages of D(x) and D(x̂).

    The averages take part as they were before this evaluation, so that processes agree on them; the first evaluation
    starts them at the batch's means and costs nothing. The authors' code squares only the positive parts of
    D(x) − α_F and α_R − D(x̂); this is the paper's equation.

    Args:
        weight: λ, ≥ 0; the larger the scores that the loss leads to, the smaller.
        decay: of the averages, per evaluation, in [0, 1).
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "lecam"
    real_anchor: Tensor
    fake_anchor: Tensor
    started: Tensor

    def __init__(self, weight: float = 0.3, decay: float = 0.99, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        if not 0 <= decay < 1:
            raise UserError(f"LeCam.decay is {decay}: it must be at least 0 and below 1")
        self.weight = weight
        self.decay = decay
        for name in ("real_anchor", "fake_anchor", "started"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """The term of this batch; then the averages take note of it."""
        real_anchor, fake_anchor, started = self.real_anchor.clone(), self.fake_anchor.clone(), self.started.clone()
        with torch.no_grad():
            rate = 1 - self.decay * started  # 1 at first
            self.real_anchor += rate * (turn.real_scores.mean() - real_anchor)
            self.fake_anchor += rate * (turn.fake_scores.mean() - fake_anchor)
            self.started.fill_(1.0)
        from_fake = (turn.real_scores - fake_anchor).square().mean()
        from_real = (turn.fake_scores - real_anchor).square().mean()
        return self.weight * started * (from_fake + from_real)
