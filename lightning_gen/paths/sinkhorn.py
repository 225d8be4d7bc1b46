"""A pairing that moves noise little, made on the device."""

import math

import torch
from torch import Tensor

from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.paths.coupling import Coupling, pair_costs, unlike
from lightning_gen.precision import exact


class SinkhornTransport(Coupling):
    """Noise drawn for each sample from a batch's entropic plan of transport.

    The plan P = diag(u) exp(−C / (r c̄)) diag(v), of costs C = |x − ε|²/2 with mean c̄, has rows and columns that sum to
    1/B, found by Sinkhorn's iterations (Cuturi, NIPS 2013; in multisample flow matching: Pooladian et al., ICML 2023,
    arXiv:2304.14772). As r → 0 it becomes the permutation of `MinibatchOptimalTransport`. Some noise of the batch is
    drawn twice and some not at all, which in the mean leaves it N(0, I).

    As there, noise goes to samples of the same condition only, and processes pair their own part of a batch each.

    Args:
        regularisation: r, above 0; with a smaller one, more iterations are needed.
        iterations: of Sinkhorn's, ≥ 1.

    Raises:
        UserError: if an argument is out of its range.
    """

    looks_at_batch = True

    def __init__(self, regularisation: float = 0.05, iterations: int = 50) -> None:
        check_above(self, 0, regularisation=regularisation)
        check_at_least(self, 1, iterations=iterations)
        self.regularisation, self.iterations = regularisation, iterations

    @torch.no_grad()
    def __call__(self, noise: Tensor, x: Tensor, y: Tensor | None) -> Tensor:
        """Rows of `noise`."""
        with exact(x):
            plan = self.log_plan(pair_costs(noise, x), None if y is None else unlike(y))
        gumbel = -torch.empty_like(plan).exponential_().log()
        return noise[(plan + gumbel).argmax(0)]

    def log_plan(self, costs: Tensor, forbidden: Tensor | None = None) -> Tensor:
        """(B, B) logarithms of a plan whose columns sum to 1/B.

        Args:
            costs: (B, B) of noise (rows) and samples (columns).
            forbidden: (B, B) bool, which of them must not meet; never one with itself.
        """
        log_kernel = -costs / (self.regularisation * costs.mean())
        if forbidden is not None:
            log_kernel = log_kernel.masked_fill(forbidden, -torch.inf)
        for _ in range(self.iterations):
            log_kernel = log_kernel - log_kernel.logsumexp(1, keepdim=True)
            log_kernel = log_kernel - log_kernel.logsumexp(0, keepdim=True)
        return log_kernel - math.log(len(costs))
