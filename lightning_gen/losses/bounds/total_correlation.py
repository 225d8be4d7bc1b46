"""β-TC: the divergence in three parts, of which one makes latents independent of each other."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_at_least
from lightning_gen.losses.bounds.base import Inference, Terms, check_batch
from lightning_gen.losses.bounds.elbo import ELBO
from lightning_gen.losses.bounds.kl import KLEstimator, factors
from lightning_gen.losses.processes import gather


class BatchWeights(ABC):
    """How the posteriors of a batch of B samples stand for those of all N: q(z_i) ≈ Σ_k w_ik q(z_i | x_k)."""

    @abstractmethod
    def __call__(self, batch_size: int, num_train: int, like: Tensor) -> Tensor:
        """Weights w (B, B), i along the rows, on the device and in the precision of another tensor."""


class WeightedSampling(BatchWeights):
    """Minibatch weighted sampling, w = 1/NB: biased (Chen et al., NeurIPS 2018)."""

    def __call__(self, batch_size: int, num_train: int, like: Tensor) -> Tensor:
        """(B, B); rows sum to 1/N."""
        return like.new_full((batch_size, batch_size), 1 / (num_train * batch_size))


class StratifiedSampling(BatchWeights):
    """Minibatch stratified sampling: q(z_i) without bias (Chen et al., NeurIPS 2018, appendix C.2).

    A sample's own posterior counts 1/N, those of M − 1 others 1/M and that of the last (N − M)/NM, M = B − 1.
    """

    def __call__(self, batch_size: int, num_train: int, like: Tensor) -> Tensor:
        """(B, B); rows sum to 1."""
        m = batch_size - 1
        w = like.new_full((batch_size, batch_size), 1 / m)
        w.fill_diagonal_(1 / num_train)
        own = torch.arange(batch_size, device=like.device)
        w[own, (own + 1) % batch_size] = (num_train - m) / (num_train * m)
        return w


class BetaTC(ELBO):
    """−E_q[log p(x | z)] + α I(x; z) + β KL(q(z) ‖ Π_j q(z_j)) + γ Σ_j KL(q(z_j) ‖ p(z_j)).

    (β-TCVAE: Chen et al., "Isolating Sources of Disentanglement in VAEs", NeurIPS 2018, eq. 4.) The three parts are
    those of KL(q(z | x) ‖ p(z)), estimated from the latents drawn; q(z) from the posteriors of the batch, of all
    processes. The posterior's latents must be independent of each other given x.

    Args:
        alpha: α ≥ 0, of the mutual information.
        beta: β ≥ 0, of the total correlation.
        gamma: γ ≥ 0, of the divergence of each latent.
        weights: how a batch stands for all samples; `StratifiedSampling` if unset.
        num_samples: latents S drawn for each sample, ≥ 1.
        kl: how the divergence that is logged is computed; in closed form if unset.

    Raises:
        UserError: if an argument is out of its range; before training, if the posterior's latents depend on each other,
            or a batch has 1 sample or more than there are.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        weights: BatchWeights | None = None,
        num_samples: int = 1,
        kl: KLEstimator | None = None,
    ) -> None:
        super().__init__(num_samples, kl)
        check_at_least(self, 0, alpha=alpha, beta=beta, gamma=gamma)
        self.alpha, self.beta, self.gamma = float(alpha), float(beta), float(gamma)
        self.weights = weights or StratifiedSampling()
        self.num_train: int | None = None

    def learn(self, num_train: int) -> None:
        """N."""
        self.num_train = num_train

    @property
    def differentiates_log_prob(self) -> bool:
        """Yes: the three parts are made of densities at latents."""
        return True

    def check(self, batch_size: int, num_train: int) -> None:
        """Samples of a batch are compared, and stand for all others."""
        check_batch(self, batch_size, num_train)

    def regulariser(self, inference: Inference, z: Tensor, kl: Tensor) -> tuple[Tensor, Terms]:
        """α I + β TC + γ Σ_j KL_j."""
        densities = self._densities(inference, z)
        log_w = self._log_weights(densities)
        joint = densities.sum(-1)
        log_q_given_x = joint.diagonal(dim1=0, dim2=1).mean()
        log_q = (joint + log_w).logsumexp(0).mean()
        log_marginals = (densities + log_w.unsqueeze(-1)).logsumexp(0).sum(-1).mean()
        terms = {
            "mutual_information": log_q_given_x - log_q,
            "total_correlation": log_q - log_marginals,
            "kl_of_marginals": log_marginals - inference.prior.log_prob(z).mean(),
        }
        information, correlation, marginals = terms.values()
        return self.alpha * information + self.beta * correlation + self.gamma * marginals, terms

    def _densities(self, inference: Inference, z: Tensor) -> Tensor:
        """Log q(z_ij | x_k) of all samples k and i of all processes, (k, i, S, d)."""
        q = factors(inference.posterior)
        if q is None:
            raise UserError(
                "the bound BetaTC needs a posterior whose latents are independent of each other given a sample, such as"
                f" DiagonalNormal, but it is {type(inference.posterior).__name__}"
            )
        everybody = gather(z.transpose(0, 1))
        own = q.log_prob(everybody.unsqueeze(2))  # (i, S, own k, d)
        return gather(own.movedim(2, 0))

    def _log_weights(self, densities: Tensor) -> Tensor:
        """Log w_ik as (k, i, 1)."""
        size = len(densities)
        if self.num_train is None:
            raise ValueError("BetaTC does not know the number of training samples: call learn first")
        check_batch(self, size, self.num_train)
        return self.weights(size, self.num_train, densities).log().T.unsqueeze(-1)
