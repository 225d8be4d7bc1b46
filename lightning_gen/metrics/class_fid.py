"""FID within each class: whether a conditional model draws what it was asked for."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.metrics.blocks import blocks_of, enough, standard_error
from lightning_gen.metrics.classes import classes_of, require_two
from lightning_gen.metrics.distributed import warn
from lightning_gen.metrics.extractors import Features
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.rows import RowMetric


class ClassFID(RowMetric):
    """The mean over classes of FID between the samples drawn for a class and the data of that class.

    Source: Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018, section 4 (intra-FID); Benny et al.,
    "Evaluation Metrics for Conditional Image Generation", IJCV 2021 (within-class FID). Each class of the data counts
    alike, however many samples it has. FID of few samples is biased upwards, and a class has few: compare only equal
    `num_samples`.

    Beside the mean stand `<name>_class<k>` for each class k, and standard errors `_se` of all of them, by leaving out
    each block of the set in turn; the reference is held fixed.

    Args:
        extractor: what describes the samples.
        blocks: number of blocks for error bars, ≥ 2; 0 for none. Each costs the eigenvalues of one matrix a class, no
            larger than the number of its samples.
    """

    prefix = "cfid"
    higher_is_better = False
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Compare with `reference`; samples seen so far are forgotten.

        Raises:
            UserError: if it has no classes, or fewer than 2 samples of one.
        """
        super().set_reference(reference)
        require_two(self.name, "data", classes_of(self.name, "data", reference.y).bincount())

    def begin(self, num_samples: int) -> None:
        """Start a set, and warn where a class will have too few samples."""
        super().begin(num_samples)
        y = self.data_statistics().y
        assert y is not None
        each = num_samples // (int(y.max()) + 1)
        if each <= self.extractor.num_features:
            warn(
                f"{self.name} of about {each} samples a class is biased upwards: it needs many more than the "
                f"{self.extractor.num_features} features of its extractor; raise num_samples"
            )

    def accumulate(self, features: Features, index: Tensor) -> None:
        """Write rows to their places; those without classes are refused while it is early."""
        classes_of(self.name, "samples", features.y)
        super().accumulate(features, index)

    def compute_all(self) -> dict[str, Tensor]:
        """The mean over classes, each class, and their standard errors.

        Raises:
            UserError: if the samples have no classes, one that the data lack, or fewer than 2 of one.
        """
        reference = self.data_statistics()
        assert reference.features is not None
        assert reference.y is not None
        num_classes = int(reference.y.max()) + 1
        classes = classes_of(self.name, "samples", self.classes, num_classes)
        counts = classes.bincount(minlength=num_classes)
        require_two(self.name, "samples", counts)
        block = blocks_of(torch.arange(len(classes)), max(self.blocks, 1)).to(classes.device)
        in_block = torch.bincount(classes * max(self.blocks, 1) + block, minlength=num_classes * max(self.blocks, 1))
        fewest = int((counts[:, None] - in_block.view(num_classes, -1)).min())  # of a class without a block
        blocks = self.blocks if enough(len(classes), self.blocks) and fewest >= 2 else 0
        values, left_out = [], []
        for k in range(num_classes):
            data, own = reference.features[reference.y == k], classes == k
            distances = _distances(data.double(), self.gathered[own].double(), block[own], blocks)
            values.append(distances[0])
            left_out.append(distances[1:])
        each = torch.stack(values)
        found = {self.name: each.mean()} | {f"{self.name}_class{k}": value for k, value in enumerate(each)}
        if blocks:
            others = torch.stack(left_out, dim=1)
            found[f"{self.name}_se"] = standard_error(others.mean(dim=1))
            found |= {f"{self.name}_class{k}_se": error for k, error in enumerate(standard_error(others))}
        return found

    def protocol(self) -> dict[str, Any]:
        """Adds how covariances are made."""
        return {**super().protocol(), "covariance": "float64, of each class, normalised by n - 1"}


def _distances(data: Tensor, samples: Tensor, block: Tensor, blocks: int) -> Tensor:
    """FID of two sets of rows, and without the samples of each block: (1 + blocks,) float64."""
    centre, m = data.mean(dim=0), len(data)
    # F with F Fᵀ = Σ of the data, without a (d, d) matrix where there are fewer rows than that
    factor = torch.linalg.qr(data - centre, mode="r").R.T / (m - 1) ** 0.5
    trace = factor.square().sum()
    x = samples - centre
    projected = x @ factor
    whole = _distance(x, projected, trace, lambda rows: torch.linalg.svdvals(rows).sum()).clamp(min=0.0)
    rest = [_distance(x[block != b], projected[block != b], trace, _fast_nuclear_norm) for b in range(blocks)]
    return torch.stack([whole, *rest])


def _distance(x: Tensor, projected: Tensor, trace: Tensor, nuclear_norm: Callable[[Tensor], Tensor]) -> Tensor:
    """‖μ‖² + Tr Σ + trace − 2 Tr(FᵀΣF)^½ of rows `x` (n, d) about the mean of the data, and `projected`, x F (n, r)."""
    mean, n = x.mean(dim=0), len(x)
    own = (x - mean).square().sum() / (n - 1)
    return mean.square().sum() + own + trace - 2 * nuclear_norm(projected - projected.mean(dim=0)) / (n - 1) ** 0.5


def _fast_nuclear_norm(rows: Tensor) -> Tensor:
    """Σ of the singular values of (n, r) rows, from the eigenvalues of the smaller of two products.

    Precise enough for differences between nearly equal sets, see `fid.fast_distance`.
    """
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows)
    noise = len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * eigenvalues[-1].clamp(min=0)
    return torch.where(eigenvalues > noise, eigenvalues, 0.0).sqrt().sum()
