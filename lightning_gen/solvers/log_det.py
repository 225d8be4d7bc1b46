"""What a velocity does to volumes."""

import torch
from torch import Tensor

from lightning_gen.noise import Noise
from lightning_gen.solvers.base import ODESolver, Velocity, root_mean_square
from lightning_gen.solvers.divergences import Divergence


def solve_with_log_det(
    solver: ODESolver,
    velocity: Velocity,
    divergence: Divergence,
    x: Tensor,
    start: float,
    end: float,
    noise: Noise | None = None,
) -> tuple[Tensor, Tensor]:
    """Where x goes from `start` to `end`, and log |det| of the Jacobian of going there.

    The instantaneous change of variables (Chen et al., "Neural Ordinary Differential Equations", NeurIPS 2018, theorem
    1), which is solved together with x:

        d log |det ∂x_t/∂x_start| / dt = ∇·v(x_t, t)

    Args:
        solver: of both equations; of a step's errors, those of x and of the determinant count alike.
        velocity: v.
        divergence: of v.
        x: (n, …).
        start: time.
        end: time.
        noise: a stream a sample, of which a divergence draws; None for torch's global generator.

    Returns:
        x at `end` (n, …), and (n,) nats.

    Raises:
        UserError: if a tolerance cannot be met.
    """
    probes = divergence.probes(x, noise)

    def augmented(state: Tensor, t: Tensor) -> Tensor:
        v, trace = divergence(velocity, state[:, :-1].view_as(x), t, probes)
        return torch.cat((v.flatten(1), trace[:, None]), 1)

    def norm(error: Tensor) -> Tensor:
        return torch.maximum(root_mean_square(error[:, :-1]), error[:, -1].abs())

    state = torch.cat((x.flatten(1), x.new_zeros(len(x), 1)), 1)
    found = solver(augmented, state, start, end, norm)
    return found[:, :-1].view_as(x), found[:, -1]
