"""A loss weighed against another by the gradients that reach one layer."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lightning_gen.precision import full

_DELTA = 1e-6
_LARGEST = 1e4


def balanced(
    reconstruction: Tensor,
    game: Tensor,
    weight: float,
    outputs: Tensor,
    others: Sequence[Tensor],
    last: Tensor,
    mean: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """L_rec + w λ L_gan, with λ such that L_rec and λ L_gan pull equally hard at a decoder's last layer.

        λ = ‖∇L_rec‖ / (‖∇L_gan‖ + δ),   δ = 10⁻⁶      (Esser et al., CVPR 2021, eqs. 6, 7)

    λ is at most 10⁴, as in the authors' code: a discriminator that says nothing has no gradient. Both losses are
    differentiated once, down to the outputs; below those the sum of their gradients goes on.

    Args:
        reconstruction: L_rec.
        game: L_gan.
        weight: w ≥ 0.
        outputs: (B, …) the decoder's, through which both losses depend on its weights.
        others: other tensors that the losses depend on and that need gradients, such as a likelihood's parameters.
        last: weight of the decoder's last layer.
        mean: of a tensor over all processes, for whose joint batch λ is; the identity where there is one.

    Returns:
        A scalar that has the gradient of the sum, though not its value; and w λ, without gradient.
    """
    inputs = [outputs, *others]
    of_first = torch.autograd.grad(reconstruction, inputs, retain_graph=True, materialize_grads=True)
    of_second = torch.autograd.grad(game, inputs, materialize_grads=True)
    of_last = [torch.autograd.grad(outputs, last, g[0], retain_graph=True)[0] for g in (of_first, of_second)]
    pair = mean(torch.stack([g.flatten() for g in of_last]))
    first, second = full(pair).norm(dim=1)
    factor = weight * (first / (second + _DELTA)).clamp(max=_LARGEST)
    gradients = zip(inputs, of_first, of_second, strict=True)
    return torch.stack([(v * (a + factor * b)).sum() for v, a, b in gradients]).sum(), factor
