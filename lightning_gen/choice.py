"""Drawing one of several from a number."""

import torch
from torch import Tensor


def choose(logits: Tensor, uniform: Tensor) -> Tensor:
    """The k (N, …) whose share of [0, 1) holds a number, as shares are softmax(logits) one after the other.

    Args:
        logits: (N, K, …).
        uniform: (N, …) in [0, 1).

    Returns:
        int64 in [0, K).
    """
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    edges = logits.to(wide).softmax(1).cumsum(1)[:, :-1]
    return (uniform.to(wide).unsqueeze(1) >= edges).sum(1)
