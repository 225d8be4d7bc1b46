"""What is minimised: pure functions and small classes, tensors in, scalars out."""

from lightning_gen.losses.adversarial import AdversarialLoss, Hinge, Minimax, NonSaturating
from lightning_gen.losses.penalties import R1, Penalty

__all__ = ["R1", "AdversarialLoss", "Hinge", "Minimax", "NonSaturating", "Penalty"]
