"""Gradients of bounds along the path of the latents alone: the same in expectation, with less variance."""

from torch import Tensor

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds.base import Bound, Inference, Terms
from lightning_gen.losses.bounds.importance import IWAE, log_mean_exp


class StickingTheLanding(Bound):
    """The evidence lower bound without the score of q (Roeder, Wu, Duvenaud, "Sticking the Landing", NIPS 2017).

    −E_q[log p(x | z) + log p(z) − log q(z | x)], where the parameters of q have their gradient through z alone. Left
    out is ∇ log q(z | x) with z fixed, which is 0 in expectation; where q is the true posterior, what remains is 0 for
    every z.

    Args:
        num_samples: latents S drawn for each sample, ≥ 1.

    Raises:
        UserError: if there are none.
    """

    def __init__(self, num_samples: int = 1) -> None:
        super().__init__()
        check_at_least(self, 1, num_samples=num_samples)
        self.num_samples = num_samples

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The negative bound, and `elbo`, `reconstruction` and `kl`, which is estimated."""
        z = inference.posterior.rsample((self.num_samples,))
        reconstruction = inference.log_likelihood(z).mean()
        kl = (inference.frozen_log_posterior(z) - inference.prior.log_prob(z)).mean()
        elbo = reconstruction - kl
        return -elbo, {"elbo": elbo, "reconstruction": reconstruction, "kl": kl}


class DReG(IWAE):
    """IWAE with doubly reparameterised gradients (Tucker et al., ICLR 2019).

    With normalised weights w̃_k = w_k / Σ_j w_j the gradient of the encoder is Σ_k w̃_k² ∂log w_k/∂z_k ∂z_k/∂φ, and
    that of decoder and prior IWAE's Σ_k w̃_k ∇ log w_k. The loss has the value of IWAE's.

    Args:
        num_samples: K, latents drawn for each sample, ≥ 1.

    Raises:
        UserError: if there are none.
    """

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The negative `bound`, logsumexp − log K whatever the gradient; and `elbo`."""
        z = inference.posterior.rsample((self.num_samples,))
        log_w = inference.log_likelihood(z) + inference.prior.log_prob(z) - inference.frozen_log_posterior(z)
        weights = log_w.detach().softmax(0)
        if z.requires_grad:
            z.register_hook(lambda gradient: weights.unsqueeze(-1).to(gradient) * gradient)  # the second factor w̃
        bound = log_mean_exp(log_w.detach(), 0).mean()
        surrogate = (weights * log_w).sum(0).mean()
        return surrogate.detach() - surrogate - bound, {"bound": bound, "elbo": log_w.mean()}
