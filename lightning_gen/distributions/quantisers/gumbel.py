"""Gumbel-softmax quantisation: codes are drawn from a distribution that features give, softly in training."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gumbel_softmax

from lightning_gen.distributions.quantisers.base import Quantised, Quantiser, map_of, rows_of
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.precision import exact


class GumbelQuantiser(Quantiser):
    """q(k | h) = softmax(W h + b) over K codes, and z = Σ_k y_k e_k with y from the Gumbel-softmax of q.

        y = softmax((log q + g) / τ),    g_k = −log(−log u_k),    u_k uniform in (0, 1)

    (Jang et al., Maddison et al., ICLR 2017; as the discrete VAE of Ramesh et al., "Zero-Shot Text-to-Image
    Generation", ICML 2021, section 2.1). In evaluation mode y is 1 at the likeliest code. The loss draws q to uniform:
    weight · mean over positions of KL(q ‖ 1/K), in nats. Under a likelihood of D entries in nats an entry, a weight of
    h·w/D makes it a bound on log p(x).

    Args:
        num_features: channels F of the features.
        num_codes: K.
        dim: length d of a code.
        temperature: τ > 0, the lower the harder; published runs anneal it from 1 to 1/16 (callback `Anneal`, target
            `model.quantiser.temperature`).
        kl_weight: ≥ 0.

    Raises:
        UserError: if a number is out of its range.
    """

    def __init__(
        self,
        num_features: int,
        num_codes: int = 512,
        dim: int = 64,
        temperature: float = 1.0,
        kl_weight: float = 5e-4,
    ) -> None:
        super().__init__(num_features)
        check_at_least(self, 1, num_codes=num_codes, dim=dim)
        check_above(self, 0, temperature=temperature)
        check_at_least(self, 0, kl_weight=kl_weight)
        self.num_codes, self.latent_dim = num_codes, dim
        self.temperature, self.kl_weight = temperature, kl_weight
        self.project = nn.Conv2d(num_features, num_codes, 1)
        self.vectors = nn.Parameter(torch.randn(num_codes, dim) * dim**-0.5)

    def forward(self, h: Tensor) -> Quantised:
        """Quantise (B, F, h, w) features, with noise in training mode; codes are the likeliest."""
        logits = rows_of(self.project(h))
        codes = logits.argmax(-1)
        log_q = logits.log_softmax(-1)
        kl = (log_q.exp() * log_q).sum(-1).mean() + math.log(self.num_codes)
        if self.training:
            with exact(h):
                z = gumbel_softmax(logits, self.temperature) @ self.vectors
        else:
            z = embedding(codes, self.vectors)
        terms = self.usage(codes) | {"code_kl": kl}
        return Quantised(map_of(z, h), map_of(codes[..., None], h), self.kl_weight * kl, terms)

    def lookup(self, codes: Tensor) -> Tensor:
        """The codebook's vectors."""
        return map_of(embedding(codes.flatten(1), self.vectors), codes)
