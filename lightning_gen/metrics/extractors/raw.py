"""The samples themselves as features, for points in the plane and other small vectors."""

from typing import Any

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.extractors import FeatureExtractor, Features


class Raw(FeatureExtractor):
    """Flattened samples: (B, *) to (B, num_features).

    Args:
        num_features: numbers in one sample, ≥ 1; 2 for points in the plane.

    Raises:
        UserError: when a sample has another number of numbers.
    """

    def __init__(self, num_features: int = 2) -> None:
        super().__init__()
        self.name, self.num_features, self.num_logits = "raw", num_features, None

    def stored(self, x: Tensor) -> Tensor:
        """`x` as it is: only images are stored as bytes."""
        return x

    def extract(self, x: Tensor) -> Features:
        """`x`, flattened, in float32."""
        pooled = x.flatten(1).float()
        if pooled.shape[1] != self.num_features:
            raise UserError(
                f"extractor 'raw' was told num_features={self.num_features}, but samples of shape "
                f"{tuple(x.shape[1:])} have {pooled.shape[1]} numbers"
            )
        return Features(pooled)

    def protocol(self) -> dict[str, Any]:
        """The name, and that nothing is done to the samples."""
        return {
            "extractor": self.name,
            "num_features": self.num_features,
            "weights_sha256": None,
            "resize": None,
            "dtype": "float32",
            "quantisation": None,
        }
