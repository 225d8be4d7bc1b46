"""Whether samples of a class vary as the data of that class do."""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS
from lightning_gen.metrics.classes import classes_of, require_two
from lightning_gen.metrics.extractors import CHUNK, FeatureExtractor, Features
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.sums import SumMetric


class ClassDiversity(SumMetric):
    """The mean over classes of Tr Σ of the samples of a class, over Tr Σ of the data of that class; 1 is right.

    Tr Σ is half the mean squared distance between two members of a class in the space of features. Below 1 a model
    repeats itself within classes, of which the Inception Score says nothing and FID of the whole set little; above 1
    it adds variation that the data do not have, noise included. So neither more nor less is better. Classes are those
    that samples were drawn for, never predicted ones, in which mistakes of a classifier would look like diversity.

    Beside it stand `<name>_class<k>` for each class k, and standard errors `_se` of all of them; the reference is held
    fixed.

    Args:
        extractor: what describes the samples.
        blocks: for error bars, see `SumMetric`.
    """

    prefix = "class_diversity"
    higher_is_better = None
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    class_count: Tensor

    def __init__(self, extractor: FeatureExtractor, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        self._data_spread: Tensor | None = None
        self._shapes: dict[str, tuple[int, ...]] = {
            "class_count": (),
            "class_sum": (extractor.num_features,),
            "class_square": (),
        }
        for name, shape in self._shapes.items():
            self.add_block_sum(name, 0, *shape)  # how many classes there are is known with the reference

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; samples seen so far are forgotten.

        Raises:
            UserError: if it has no classes, fewer than 2 samples of one, or only equal ones.
        """
        num_classes = int(classes_of(self.name, "data", reference.y).max()) + 1
        for name, shape in self._shapes.items():
            self.start_from_zeros(name, max(self.blocks, 1), num_classes, *shape)
        super().set_reference(reference)
        assert reference.features is not None
        assert reference.y is not None
        sums = {name: reference.mean.new_zeros(num_classes, *shape) for name, shape in self._shapes.items()}
        for x, y in zip(reference.features.split(CHUNK), reference.y.split(CHUNK), strict=True):
            for name, value in class_sums(x.double() - reference.mean, y, num_classes).items():
                sums[name] += value
        require_two(self.name, "data", sums["class_count"])
        self._data_spread = spread(sums)
        rounding = 1e-12 * sums["class_square"] / sums["class_count"]
        if bool((equal := self._data_spread <= rounding).any()):
            raise UserError(
                f"{self.name} divides by the spread of the data, but those of class {int(equal.nonzero()[0])} are all "
                f"equal to extractor {self.extractor.name!r}: choose another extractor"
            )

    def contribution(self, features: Features, index: Tensor) -> dict[str, Tensor]:
        """For each class its number of samples, Σ(x − μ) and Σ‖x − μ‖², μ the mean of the data.

        Raises:
            UserError: if the samples have no classes, or one that the data lack.
        """
        num_classes = self.class_count.shape[1]
        y = classes_of(self.name, "samples", features.y, num_classes)
        return class_sums(features.pooled - self.data_statistics().mean, y, num_classes)

    def values(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean of the ratios, and each of them.

        Raises:
            UserError: if there are fewer than 2 samples of a class.
        """
        require_two(self.name, "samples", sums["class_count"])
        return self.replicate(sums)

    def replicate(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, where a class that lost its last pair has no spread."""
        assert self._data_spread is not None
        ratios = spread(sums) / self._data_spread.to(sums["class_count"].device)
        return {self.name: ratios.mean()} | {f"{self.name}_class{k}": ratio for k, ratio in enumerate(ratios)}

    def protocol(self) -> dict[str, Any]:
        """Adds what is divided."""
        ratio = "trace of the covariance (n - 1) within each class, samples over data; the mean over classes"
        return {**super().protocol(), "ratio": ratio}


def class_sums(x: Tensor, y: Tensor, num_classes: int) -> dict[str, Tensor]:
    """For each class, how many rows there are, their sum and the sum of their squared lengths.

    Args:
        x: (B, d) float64.
        y: (B,) int64 in [0, K).
        num_classes: K.

    Returns:
        `class_count` (K,), `class_sum` (K, d) and `class_square` (K,).
    """
    # a product with 0/1 rows rather than index_add_, whose order of summation on CUDA varies
    member = F.one_hot(y, num_classes).to(x)
    return {
        "class_count": member.sum(dim=0),
        "class_sum": member.T @ x,
        "class_square": member.T @ x.square().sum(dim=1),
    }


def spread(sums: dict[str, Tensor]) -> Tensor:
    """Tr Σ of each class, (K,), normalised by n − 1, from `class_sums`."""
    count = sums["class_count"]
    scatter = sums["class_square"] - sums["class_sum"].square().sum(dim=1) / count.clamp(min=1)
    return scatter / (count - 1).clamp(min=1)
