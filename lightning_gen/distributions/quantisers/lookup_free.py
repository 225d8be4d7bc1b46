"""Lookup-free quantisation: the signs of a few numbers are the code."""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, mse_loss

from lightning_gen.distributions.quantisers.base import Quantised, Quantiser, map_of, rows_of, straight_through
from lightning_gen.distributions.quantisers.usage import MOST_CODES
from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.losses.processes import mean_over_processes

_MOST_BITS = MOST_CODES.bit_length() - 1


class LookupFreeQuantiser(Quantiser):
    """z = sign(v) ∈ {−1, 1}ᵈ; code Σ_i 2ⁱ [v_i > 0], so K = 2ᵈ (Yu et al., MAGVIT-v2, ICLR 2024, section 3.1).

    The loss keeps v near the signs and makes codes sure of each position, and different between positions:

        β · mean (v − sg[z])²  +  λ (E[H(q(z | v))] − H(E[q(z | v)]))        in nats,

    where q(z | v) ∝ exp(−‖v − z‖²/τ) over the 2ᵈ codes, so that bits are independent given v. The second entropy is
    over all codes together; of more than `joint_bits` bits, over groups of at most so many, as if groups were
    independent, which bounds it from above. Its mean is over the positions of all processes.

    Args:
        num_features: channels F of the features.
        num_bits: d, 1 to 20; the paper has 18.
        commitment: β ≥ 0.
        entropy_weight: λ ≥ 0.
        temperature: τ > 0; the paper gives none.
        joint_bits: ≥ 1; memory grows as positions × 2^joint_bits.

    Raises:
        UserError: if a number is out of its range.
    """

    basis: Tensor

    def __init__(
        self,
        num_features: int,
        num_bits: int = 10,
        commitment: float = 0.25,
        entropy_weight: float = 0.1,
        temperature: float = 1.0,
        joint_bits: int = 10,
    ) -> None:
        super().__init__(num_features)
        check_at_least(self, 1, num_bits=num_bits, joint_bits=joint_bits)
        check_at_least(self, 0, commitment=commitment, entropy_weight=entropy_weight)
        check_above(self, 0, temperature=temperature)
        if num_bits > _MOST_BITS:
            raise UserError(f"LookupFreeQuantiser.num_bits is {num_bits}: it must be at most {_MOST_BITS}")
        self.num_codes, self.latent_dim = 2**num_bits, num_bits
        self.commitment, self.entropy_weight, self.temperature = commitment, entropy_weight, temperature
        self.joint_bits = joint_bits
        self.project = nn.Conv2d(num_features, num_bits, 1)
        self.register_buffer("basis", 2 ** torch.arange(num_bits), persistent=False)

    def forward(self, h: Tensor) -> Quantised:
        """Quantise (B, F, h, w) features."""
        v = rows_of(self.project(h))
        positive = v > 0
        signs = torch.where(positive, 1.0, -1.0).to(v)
        codes = (positive * self.basis).sum(-1)
        sure, diverse = self.entropies(v.flatten(0, 1))
        loss = self.commitment * mse_loss(v, signs) + self.entropy_weight * (sure - diverse)
        terms = self.usage(codes) | {"code_entropy": sure, "codebook_entropy": diverse}
        return Quantised(map_of(straight_through(signs, v), h), map_of(codes[..., None], h), loss, terms)

    def lookup(self, codes: Tensor) -> Tensor:
        """The bits of the codes as signs."""
        bits = codes.flatten(1)[..., None] // self.basis % 2
        return map_of((bits * 2 - 1).to(self.project.weight.dtype), codes)

    def entropies(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """E[H(q)] and H(E[q]) of (N, d) features, in nats."""
        logits = 4 * v / self.temperature  # ‖v + e‖² − ‖v − e‖² = 4 v for a bit e = ±1
        p, log_p, log_rest = logits.sigmoid(), logsigmoid(logits), logsigmoid(-logits)
        sure = -(p * log_p + (-logits).sigmoid() * log_rest).sum(1).mean()
        groups = p.split(self.joint_bits, dim=1)
        return sure, torch.stack([entropy(self.average(joint(group))) for group in groups]).sum()

    def average(self, q: Tensor) -> Tensor:
        """The mean of (N, M) over rows, in training mode over those of all processes.

        Its gradient is that of this process's rows: averaged over processes, as gradients are, it is that of the whole.
        """
        mean = q.mean(0)
        return mean + (mean_over_processes(mean) - mean).detach() if self.training else mean


def joint(p: Tensor) -> Tensor:
    """The probabilities (N, 2ᵍ) of all words of g independent bits that are 1 with probabilities (N, g)."""
    words = torch.ones_like(p[:, :1])
    for bit in p.split(1, dim=1):
        words = torch.cat((words * (1 - bit), words * bit), dim=1)
    return words


def entropy(p: Tensor) -> Tensor:
    """−Σ p log p, with a finite gradient at 0."""
    return -(p * p.clamp(min=torch.finfo(p.dtype).tiny).log()).sum()
