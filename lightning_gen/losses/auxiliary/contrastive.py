"""Contrastive conditioning: embeddings near the proxy of their class, and related to the rest of the batch.

Notation: f_i is the unit embedding of sample i, v_k the unit proxy of class k. The batch is what the loss is given: a
process's own share, which therefore wants samples enough to meet its own class again.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.losses.arguments import check_above, check_at_least
from lightning_gen.losses.auxiliary.base import AuxiliaryLoss
from lightning_gen.networks.base import Judgement
from lightning_gen.precision import exact


class _Contrastive(AuxiliaryLoss, ABC):
    """The same term for both players: of real samples for the discriminator, of generated ones for the generator.

    Args:
        weight: of the term in both losses, ≥ 0.
        temperature: what cosines are divided by, > 0.

    Raises:
        UserError: if an argument is out of its range.
    """

    def __init__(self, weight: float, temperature: float) -> None:
        super().__init__()
        check_at_least(self, 0, weight=weight)
        check_above(self, 0, temperature=temperature)
        self.weight = weight
        self.temperature = temperature

    def discriminator(self, real: Judgement, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """The weighted term of real samples."""
        return self.weight * self._term(real, y)

    def generator(self, fake: Judgement, y: Tensor, z: Tensor) -> Tensor:
        """The weighted term of generated samples."""
        return self.weight * self._term(fake, y)

    def _term(self, judged: Judgement, y: Tensor) -> Tensor:
        assert judged.logits is not None
        assert judged.embedding is not None
        if y.is_floating_point():
            raise UserError(
                f"model.init_args.auxiliary is {type(self).__name__}, but data is labelled by attributes: it needs"
                " classes, of which each sample has one"
            )
        with exact(y):  # differences of cosines are lost in bf16
            to_samples = judged.embedding @ judged.embedding.T
        return self.contrast(judged.logits.gather(1, y[:, None]), to_samples, y[:, None] == y)

    @abstractmethod
    def contrast(self, to_proxy: Tensor, to_samples: Tensor, same: Tensor) -> Tensor:
        """The mean contrast of B samples, a scalar.

        Args:
            to_proxy: (B, 1) cosines f_i·v_{y_i}.
            to_samples: (B, B) cosines f_i·f_j.
            same: (B, B) booleans y_i = y_j.
        """

    def check(self, judged: Judgement) -> str | None:
        """Embeddings and cosines to the proxies are needed."""
        if judged.embedding is None or judged.logits is None:
            return (
                "the discriminator gives no embeddings: set model.init_args.discriminator.init_args.head to Contrastive"
            )
        return None


class ConditionalContrastive(_Contrastive):
    """ContraGAN's 2C loss (Kang, Park, NeurIPS 2020, eq. 8): its class's proxy and samples attract a sample.

    −E_i log [ (e^{f_i·v_{y_i}/t} + Σ_{j≠i, y_j=y_i} e^{f_i·f_j/t}) / (e^{f_i·v_{y_i}/t} + Σ_{j≠i} e^{f_i·f_j/t}) ]

    Args:
        weight: of the term in both losses, ≥ 0.
        temperature: t, > 0.
    """

    def __init__(self, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__(weight, temperature)

    def contrast(self, to_proxy: Tensor, to_samples: Tensor, same: Tensor) -> Tensor:
        """Eq. 8."""
        others = ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        proxy, samples = to_proxy / self.temperature, to_samples / self.temperature
        return (_log_sum(proxy, samples, others) - _log_sum(proxy, samples, others & same)).mean()


class DataToDataCrossEntropy(_Contrastive):
    """ReACGAN's D2D-CE (Kang et al., NeurIPS 2021, eq. 8): samples of other classes take the place of their proxies.

    With p_i = min(0, f_i·v_{y_i} − m_p)/τ and n_ij = max(0, f_i·f_j − m_n)/τ:

        −E_i log [ e^{p_i} / (e^{p_i} + Σ_{j: y_j≠y_i} e^{n_ij}) ]

    Args:
        weight: λ, of the term in both losses, ≥ 0.
        temperature: τ, > 0.
        positive_margin: m_p in [−1, 1]: a proxy attracts no further from this cosine on.
        negative_margin: m_n in [−1, 1]: samples of other classes repel no further below this cosine.
    """

    def __init__(
        self,
        weight: float = 0.5,
        temperature: float = 0.5,
        positive_margin: float = 0.98,
        negative_margin: float = 0.02,
    ) -> None:
        super().__init__(weight, temperature)
        for key, value in (("positive_margin", positive_margin), ("negative_margin", negative_margin)):
            if not -1 <= value <= 1:
                raise UserError(f"DataToDataCrossEntropy.{key} is {value}: it is a cosine, from -1 to 1")
        self.positive_margin = positive_margin
        self.negative_margin = negative_margin

    def contrast(self, to_proxy: Tensor, to_samples: Tensor, same: Tensor) -> Tensor:
        """Eq. 8."""
        positive = (to_proxy - self.positive_margin).clamp(max=0.0) / self.temperature
        negative = (to_samples - self.negative_margin).clamp(min=0.0) / self.temperature
        return (_log_sum(positive, negative, ~same) - positive.squeeze(1)).mean()


def _log_sum(first: Tensor, rest: Tensor, chosen: Tensor) -> Tensor:
    """log(e^first + Σ of e^rest where chosen), of each row: (B, 1), (B, B), (B, B) to (B,)."""
    return torch.cat((first, rest.masked_fill(~chosen, -float("inf"))), dim=1).logsumexp(dim=1)
