"""FID of features that keep their place in the image."""

from typing import ClassVar, Literal

from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.fid import FID
from lightning_gen.metrics.moments import ReferenceStatistics


class SpatialFID(FID):
    """The Fréchet distance of an intermediate feature map, which feels where things are.

    Source: Nash et al., "Generating Images with Sparse Representations", ICML 2021, section 4.1 (sFID).

    Args:
        extractor: one with spatial features, such as `InceptionV3` with feature 768 or 2048.
        blocks: see `FID`.
        on_few_samples: see `FID`.

    Raises:
        UserError: if the extractor has no spatial features.
    """

    prefix = "sfid"
    needs: ClassVar[frozenset[str]] = frozenset({"spatial"})

    def __init__(
        self,
        extractor: FeatureExtractor,
        blocks: int = NUM_BLOCKS,
        on_few_samples: Literal["warn", "stop"] = "warn",
    ) -> None:
        if extractor.num_spatial is None:
            raise UserError(f"SpatialFID needs spatial features, but extractor {extractor.name!r} gives none")
        super().__init__(extractor, blocks, on_few_samples)

    @property
    def num_features(self) -> int:
        """Numbers in the feature map."""
        assert self.extractor.num_spatial is not None
        return self.extractor.num_spatial

    def vectors(self, features: Features) -> Tensor:
        """The feature map, flattened."""
        assert features.spatial is not None
        return features.spatial

    def gaussian(self, reference: ReferenceStatistics) -> ReferenceStatistics:
        """Mean and covariance of the feature maps of the data."""
        assert reference.spatial is not None
        return reference.spatial
