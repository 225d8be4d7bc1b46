"""Unrolled discriminator updates, through which the generator's gradient flows."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.losses.penalties.base import Scores
from lightning_gen.networks.base import judgement


class Unrolling:
    """The discriminator as it will be K gradient steps later (Metz et al., ICLR 2017, eqs. 7–9).

    θ⁰ = θ,  θᵏ⁺¹ = θᵏ − η ∇_θ L_D(θᵏ, G);  the generator minimises L_G(θᴷ(G), G), and its gradient includes how θᴷ
    answers G. The discriminator itself is updated as ever, from θ.

    Args:
        steps: how many steps K ahead, ≥ 1.
        learning_rate: their length η, > 0; they are plain gradient steps, whatever the optimiser.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, steps: int = 5, learning_rate: float = 1e-3) -> None:
        check_at_least(self, 1, steps=steps)
        check_above(self, 0, learning_rate=learning_rate)
        self.steps = steps
        self.learning_rate = learning_rate

    def __call__(self, discriminator: nn.Module, loss: Callable[[Scores], Tensor]) -> dict[str, Tensor]:
        """Unroll; the discriminator's parameters and buffers stay as they are.

        Args:
            discriminator: maps samples and classes to scores or a `Judgement`; frozen or not.
            loss: gives L_D from a function that scores samples.

        Returns:
            θᴷ by the names of the discriminator's parameters, for `torch.func.functional_call`, with a graph that
            reaches whatever `loss` was computed from.
        """
        weights = {name: p.detach().requires_grad_(True) for name, p in discriminator.named_parameters()}
        buffers = {name: b.detach().clone() for name, b in discriminator.named_buffers()}
        for _ in range(self.steps):
            current = weights | buffers

            def scores(x: Tensor, y: Tensor | None, at: dict[str, Tensor] = current) -> Tensor:
                return judgement(functional_call(discriminator, at, (x, y))).scores

            slopes = torch.autograd.grad(
                loss(scores), list(weights.values()), create_graph=True, materialize_grads=True
            )
            pairs = zip(weights.items(), slopes, strict=True)
            weights = {name: p - self.learning_rate * slope for (name, p), slope in pairs}
        return weights
