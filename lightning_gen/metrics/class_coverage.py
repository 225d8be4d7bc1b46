"""How many classes a classifier sees among samples, and how evenly."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.mode_coverage import kl_divergence
from lightning_gen.metrics.sums import SumMetric


class ClassCoverage(SumMetric):
    """Classes that a classifier finds among samples; for stacked MNIST with the extractor `StackedDigitsClassifier`.

    - `class_modes_<extractor>`: how many of the K classes are the likeliest one of a sample.
    - `class_kl_<extractor>`: KL(q ‖ p) in nats, of the shares q of these classes and the shares p in the data.
      Of N samples of the data it is not 0 but about (K − 1) / 2N, .019 for 1,000 classes and 26,000 samples:
      `class_kl_<extractor>_jackknife` is the value without that bias, `_se` its standard error.

    Source: Srivastava et al., "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning", 2017,
    section 4.2; Lin et al., "PacGAN", 2018, section 4.2 (26,000 samples; p uniform).

    Args:
        extractor: what classifies the samples.
        proportions: p, K positive numbers, which are divided by their sum; None for uniform.
        blocks: for error bars, see `SumMetric`.

    Raises:
        UserError: if the extractor gives no logits, or `proportions` are not K positive numbers.
    """

    prefix = "class_modes"
    higher_is_better = True
    corrects_bias = True

    def __init__(
        self, extractor: FeatureExtractor, proportions: list[float] | None = None, blocks: int = NUM_BLOCKS
    ) -> None:
        super().__init__(extractor, blocks)
        if extractor.num_logits is None:
            raise UserError(f"ClassCoverage needs logits, but extractor {extractor.name!r} gives none")
        self.num_classes = extractor.num_logits
        if proportions is not None and (len(proportions) != self.num_classes or not min(proportions) > 0):
            raise UserError(
                f"ClassCoverage.proportions is {proportions}: it must hold {self.num_classes} numbers above 0, one for "
                f"each class of extractor {extractor.name!r}, or be null"
            )
        self.proportions = proportions
        self.add_block_sum("class_count", self.num_classes)

    @property
    def directions(self) -> dict[str, bool | None]:
        """More classes are better, and a smaller KL."""
        return {self.name: True, f"class_kl_{self.extractor.name}": False}

    def contribution(self, features: Features, index: Tensor) -> dict[str, Tensor]:
        """For each class, of how many samples it is the likeliest."""
        if features.logits is None:
            raise UserError(f"extractor {self.extractor.name!r} gave no logits")
        return {"class_count": F.one_hot(features.logits.argmax(dim=1), self.num_classes).sum(dim=0)}

    def values(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Classes, and KL."""
        return {self.name: (sums["class_count"] > 0).double().sum(), **self.replicate(sums)}

    def replicate(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """KL: a count of classes has no error bar that a block left out could show."""
        count = sums["class_count"]
        p = torch.ones_like(count) if self.proportions is None else count.new_tensor(self.proportions)
        return {list(self.directions)[1]: kl_divergence(count / count.sum(), p / p.sum())}

    def protocol(self) -> dict[str, Any]:
        """Adds the values and what the shares are compared with."""
        return {
            **super().protocol(),
            "values": list(self.directions),
            "proportions": self.proportions or f"uniform over {self.num_classes} classes",
        }
