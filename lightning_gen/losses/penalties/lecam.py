"""LeCam regularisation, for training on few samples."""

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.penalties.base import DiscriminatorTurn, Penalty
from lightning_gen.losses.penalties.running import RunningMean


class LeCam(Penalty):
    """Scores near the running mean of the other kind's (Tseng et al., CVPR 2021, eq. 3).

    λ (E ‖D(x) − α_F‖² + E ‖D(x̂) − α_R‖²),  α_R and α_F the exponential moving averages of D(x) and D(x̂).

    The averages take part as they were before this update, so that its batches and all processes agree on them; the
    first update starts them at its means and costs nothing. The authors' code squares only the positive parts of
    D(x) − α_F and α_R − D(x̂); this is the paper's equation.

    Args:
        weight: λ, ≥ 0; the larger the scores that the loss leads to, the smaller.
        decay: of the averages, per update in which it is due, in [0, 1).
        interval: discriminator updates between two evaluations.

    Raises:
        UserError: if an argument is out of its range.
    """

    name = "lecam"

    def __init__(self, weight: float = 0.3, decay: float = 0.99, interval: int = 1) -> None:
        super().__init__(interval)
        check_at_least(self, 0, weight=weight)
        if not 0 <= decay < 1:
            raise UserError(f"LeCam.decay is {decay}: it must be at least 0 and below 1")
        self.weight = weight
        self.real_anchor = RunningMean(decay, from_first=True)
        self.fake_anchor = RunningMean(decay, from_first=True)

    def forward(self, turn: DiscriminatorTurn) -> Tensor:
        """The term of this batch, of which the averages take note."""
        self.real_anchor.add(turn.real_scores.mean())
        self.fake_anchor.add(turn.fake_scores.mean())
        from_fake = (turn.real_scores - self.fake_anchor.value.clone()).square().mean()
        from_real = (turn.fake_scores - self.real_anchor.value.clone()).square().mean()
        return self.weight * self.real_anchor.started.clone() * (from_fake + from_real)

    def advance(self) -> None:
        """Move the averages."""
        self.real_anchor.advance()
        self.fake_anchor.advance()
