"""The evidence lower bound, and what weighs its divergence differently."""

from torch import Tensor

from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds.base import Bound, Inference, Terms
from lightning_gen.losses.bounds.kl import ClosedForm, KLEstimator
from lightning_gen.losses.processes import mean_over_processes


class ELBO(Bound):
    """−E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)) (Kingma, Welling, ICLR 2014, eq. 3).

    Args:
        num_samples: latents S drawn for each sample, ≥ 1.
        kl: how the divergence is computed; in closed form if unset.
    """

    def __init__(self, num_samples: int = 1, kl: KLEstimator | None = None) -> None:
        super().__init__()
        check_at_least(self, 1, num_samples=num_samples)
        self.num_samples = num_samples
        self.kl = kl or ClosedForm()

    @property
    def differentiates_log_prob(self) -> bool:
        """As the divergence's estimator has it."""
        return self.kl.differentiates_log_prob

    @property
    def needs_closed_form(self) -> bool:
        """Likewise."""
        return self.kl.needs_closed_form

    def forward(self, inference: Inference) -> tuple[Tensor, Terms]:
        """The loss; `elbo`, which is the true one whatever the loss, `reconstruction`, `kl`, and a variant's terms."""
        z = inference.posterior.rsample((self.num_samples,))
        reconstruction = inference.log_likelihood(z).mean()
        kl_per_latent = self.kl.per_latent(inference, z).mean(0)
        kl = kl_per_latent.sum()
        regulariser, terms = self.regulariser(inference, z, kl_per_latent)
        terms = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl} | terms
        return regulariser - reconstruction, terms

    def regulariser(self, inference: Inference, z: Tensor, kl: Tensor) -> tuple[Tensor, Terms]:
        """What is added to the reconstruction error, a scalar, and further terms; here the divergence itself.

        Args:
            inference: as `forward` has it.
            z: (S, B, d) latents.
            kl: (d,) the divergence of each latent, the mean over the batch; (1,) where it does not split.
        """
        return kl.sum(), {}


class BetaELBO(ELBO):
    """−E_q[log p(x | z)] + β Σ_j max(λ, E_x KL(q(z_j | x) ‖ p(z_j))).

    β-VAE (Higgins et al., ICLR 2017, eq. 4) with free bits (Kingma et al., "Improved Variational Inference with Inverse
    Autoregressive Flow", NIPS 2016, appendix C): a latent whose mean divergence over the batch, of all processes, is
    below λ has no gradient of it. Where the divergence does not split over latents, the whole of it is compared with
    λ · d.

    Args:
        beta: β, ≥ 0; a callback may anneal it.
        free_bits: λ, nats a latent, ≥ 0; 0 for none.
        num_samples: latents S drawn for each sample, ≥ 1.
        kl: how the divergence is computed; in closed form if unset.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self, beta: float = 4.0, free_bits: float = 0.0, num_samples: int = 1, kl: KLEstimator | None = None
    ) -> None:
        super().__init__(num_samples, kl)
        check_at_least(self, 0, beta=beta, free_bits=free_bits)
        self.beta = float(beta)
        self.free_bits = float(free_bits)

    def regulariser(self, inference: Inference, z: Tensor, kl: Tensor) -> tuple[Tensor, Terms]:
        """β Σ_j max(λ, KL_j)."""
        if self.free_bits > 0:  # an estimated divergence below 0 is left as it is without free bits
            least = kl.new_full((), self.free_bits * z.shape[-1] / len(kl))
            kl = kl.where(mean_over_processes(kl) > least, least)
        return self.beta * kl.sum(), {}


class Capacity(ELBO):
    """−E_q[log p(x | z)] + γ |KL(q(z | x) ‖ p(z)) − C| (Burgess et al., arXiv:1804.03599).

    The divergence is the mean over the batch, of all processes.

    Args:
        gamma: γ, ≥ 0.
        capacity: C in nats, ≥ 0; the paper lets it grow from 0 to 25, by a callback here.
        num_samples: latents S drawn for each sample, ≥ 1.
        kl: how the divergence is computed; in closed form if unset.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(
        self, gamma: float = 1000.0, capacity: float = 25.0, num_samples: int = 1, kl: KLEstimator | None = None
    ) -> None:
        super().__init__(num_samples, kl)
        check_at_least(self, 0, gamma=gamma, capacity=capacity)
        self.gamma = float(gamma)
        self.capacity = float(capacity)

    def regulariser(self, inference: Inference, z: Tensor, kl: Tensor) -> tuple[Tensor, Terms]:
        """γ |KL − C|: its sign is that of all processes."""
        total = kl.sum()
        sign = (mean_over_processes(total) - self.capacity).sign()
        return self.gamma * sign * (total - self.capacity), {}
