"""Which of the Gaussians of a mixture samples find, and how many samples miss them all."""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.classes import classes_of, require_two
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.sums import SumMetric

WIDTH = 3
"""Standard deviations within which a sample belongs to a mode."""


class ModeCoverage(SumMetric):
    """Modes of a mixture of equal isotropic Gaussians that samples cover; for points, with the extractor `Raw`.

    - `modes_<extractor>`: how many modes have a sample within 3σ of their centre.
    - `high_quality_<extractor>`: share of the samples within 3σ of their nearest centre. Of the mixture itself it is
      1 − e^(−9/2) = 98.9 % in two dimensions, and less in more.
    - `kl_<extractor>`: KL(q ‖ p) in nats, of the shares q of the nearest modes among these samples and the shares p of
      the modes among the data. Of N samples of the data themselves it is about (K − 1) / 2N; where no sample is near a
      mode it is that of a model that draws the rarest mode alone, −ln min p.

    Centres, σ (the root mean square over coordinates of what the data deviate from the centre of their class, about
    which n − K deviations are free) and shares are those of the reference, whose classes are the modes. `_se` are
    standard errors of the last two.

    Source: Srivastava et al., "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning", 2017,
    section 4.1 (2,500 samples); Lin et al., "PacGAN", 2018, section 4.1 (the same with KL).

    Args:
        extractor: what describes the samples.
        blocks: for error bars, see `SumMetric`.
    """

    prefix = "modes"
    higher_is_better = True
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, extractor: FeatureExtractor, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        self._modes: tuple[Tensor, Tensor, Tensor] | None = None
        for name in ("mode_hits", "mode_count"):
            self.add_block_sum(name, 0)  # how many modes there are is known with the reference

    @property
    def directions(self) -> dict[str, bool | None]:
        """More modes and more samples near them are better, and a smaller KL."""
        return {self.name: True, f"high_quality_{self.extractor.name}": True, f"kl_{self.extractor.name}": False}

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Take modes from `reference`; samples seen so far are forgotten.

        Raises:
            UserError: if it has no classes, or fewer than 2 samples of one.
        """
        y = classes_of(self.name, "data", reference.y)
        require_two(self.name, "data", y.bincount())
        for name in ("mode_hits", "mode_count"):
            self.start_from_zeros(name, max(self.blocks, 1), int(y.max()) + 1)
        super().set_reference(reference)
        self._modes = modes_of(reference.rows.double(), y)

    def contribution(self, features: Features, index: Tensor) -> dict[str, Tensor]:
        """For each mode, how many samples lie within 3σ of it, and of how many of these it is the nearest."""
        assert self._modes is not None
        centres, sigma, _ = (part.to(features.pooled.device) for part in self._modes)
        distance = torch.cdist(features.pooled, centres, compute_mode="donot_use_mm_for_euclid_dist")
        near = distance <= WIDTH * sigma
        nearest = F.one_hot(distance.argmin(dim=1), len(centres))
        return {"mode_hits": near.double().sum(dim=0), "mode_count": (near * nearest).double().sum(dim=0)}

    def values(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Modes, share of high quality, and KL."""
        return {self.name: (sums["mode_hits"] > 0).double().sum(), **self.replicate(sums)}

    def replicate(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The last two: a count of modes has no error bar that a block left out could show."""
        assert self._modes is not None
        count, share = sums["mode_count"], self._modes[2].to(sums["mode_count"].device)
        total = count.sum()
        kl = torch.where(total > 0, kl_divergence(count / total.clamp(min=1), share), -share.min().log())
        _, high_quality, name = self.directions
        return {high_quality: total / sums["block_count"], name: kl}

    def protocol(self) -> dict[str, Any]:
        """Adds the values and what the modes are."""
        modes = {} if self._modes is None else {"modes": len(self._modes[0]), "sigma": float(self._modes[1])}
        return {**super().protocol(), **modes, "values": list(self.directions), "width": f"{WIDTH} sigma"}


def modes_of(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centres, standard deviation and shares of the modes.

    Args:
        x: (n, d) float64.
        y: (n,) int64 classes, at least 2 rows in each of 0…K−1.

    Returns:
        (K, d), a scalar, and (K,).
    """
    member = F.one_hot(y).to(x)
    count = member.sum(dim=0)
    centres = member.T @ x / count[:, None]
    variance = (x - centres[y]).square().sum() / (x.shape[1] * (len(x) - len(count)))
    return centres, variance.sqrt(), count / len(x)


def kl_divergence(q: Tensor, p: Tensor) -> Tensor:
    """KL(q ‖ p) = Σ q ln(q/p) in nats, of two (K,) float64 histograms with p > 0; 0 where q is."""
    return (torch.xlogy(q, q) - q * p.log()).sum()
