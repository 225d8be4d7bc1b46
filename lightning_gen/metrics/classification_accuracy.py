"""Whether a classifier can learn from samples what it can learn from data, and the other way round."""

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.metrics.blocks import NUM_BLOCKS, blocks_of, enough, standard_error
from lightning_gen.metrics.classes import classes_of
from lightning_gen.metrics.extractors import FeatureExtractor, Features
from lightning_gen.metrics.moments import ReferenceStatistics
from lightning_gen.metrics.reference import reference_statistics
from lightning_gen.metrics.rows import RowMetric

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

HELD_OUT = ("test", "val")
"""Splits to test on, in order of preference."""


class ClassificationAccuracy(RowMetric):
    """Accuracy of linear classifiers of an extractor's features, across samples and data.

    - `gan_train_<extractor>`: fitted on samples with the classes they were drawn for, tested on held-out data. Low when
      samples are wrong, or too alike within a class to learn from.
    - `gan_test_<extractor>`: fitted on the training data, tested on samples. Low when samples are not of their class.
    - `real_accuracy_<extractor>`: fitted on the training data, tested on held-out data: the ceiling of the first.

    Source: Shmelkov et al., "How good is my GAN?", ECCV 2018 (GAN-train and GAN-test); Ravuri and Vinyals,
    "Classification Accuracy Score for Conditional Generative Models", NeurIPS 2019 (the first). The papers train a
    ResNet from scratch. This is a *linear probe*, multinomial logistic regression on frozen and standardised features:
    minutes instead of days, but it sees only what the extractor does, and its numbers are not those of the papers.

    Held out is the split "test" of the data, else "val", whichever exists and is not the reference; where there is
    none, it is the reference itself, which the protocol says. `_se` is the standard error of each accuracy for another
    draw of what it is tested on; the classifier is held fixed.

    Args:
        extractor: what describes the samples.
        l2: λ of ½ λ‖W‖² beside the mean cross-entropy, > 0: the same for any number of samples.
        blocks: number of blocks for error bars, ≥ 2; 0 for none.

    Raises:
        UserError: if `l2` is not positive.
    """

    prefix = "gan_train"
    higher_is_better = True
    needs: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, extractor: FeatureExtractor, l2: float = 1e-3, blocks: int = NUM_BLOCKS) -> None:
        super().__init__(extractor, blocks)
        if not l2 > 0:
            raise UserError(f"ClassificationAccuracy: l2 is {l2}, but must be above 0")
        self.l2 = l2
        self._held_out: ReferenceStatistics | None = None
        self._of_data: tuple[Pipeline, dict[str, Tensor]] | None = None

    def fit_reference(self, data: Any, **options: Any) -> None:
        """Measure the data that classifiers are fitted on, and those they are tested on.

        Args:
            data: a source of rows, see `reference.ReferenceData`; held out is one of its other `splits`.
            options: keyword arguments of `reference.reference_statistics`.
        """
        super().fit_reference(data, **options)
        others = set(data.splits) - {options.get("split", "train")}
        if split := next((name for name in HELD_OUT if name in others), None):
            own = {"split": split, "num": None, "needs": self.needs}
            self.set_held_out(reference_statistics(self.extractor, data, **(options | own)))

    def set_reference(self, reference: ReferenceStatistics) -> None:
        """Fit on `reference`, and test on it until `set_held_out`; samples seen so far are forgotten.

        Raises:
            UserError: if it has no classes, or only one.
        """
        super().set_reference(reference)
        if len(classes_of(self.name, "data", reference.y).unique()) < 2:
            raise UserError(f"{self.name} needs data of at least 2 classes to tell apart, but they have 1")
        self._held_out = self._of_data = None

    def set_held_out(self, held_out: ReferenceStatistics) -> None:
        """Test on these data.

        Raises:
            UserError: if they were made by another extractor, or have no features or classes.
        """
        held_out.check(self.name, self.extractor)
        classes_of(self.name, "data", held_out.y)
        if held_out.features is None:
            raise UserError(f"the held-out data of {self.name} were made without features, which it needs")
        self._held_out, self._of_data = held_out, None

    def accumulate(self, features: Features, index: Tensor) -> None:
        """Write rows to their places; those without classes are refused while it is early."""
        classes_of(self.name, "samples", features.y)
        super().accumulate(features, index)

    def compute_all(self) -> dict[str, Tensor]:
        """The three accuracies, and their standard errors.

        Raises:
            UserError: if the samples have no classes, or only one.
        """
        x, y = self.gathered, classes_of(self.name, "samples", self.classes)
        if len(y.unique()) < 2:
            raise UserError(f"{self.name} needs samples of at least 2 classes, but they have 1: raise num_samples")
        held_out = self._held_out or self.data_statistics()
        if self._of_data is None:  # the same for every model that is measured
            data = self.data_statistics()
            classifier = self._fit(data.features, data.y)
            self._of_data = classifier, self._accuracy("real_accuracy", classifier, held_out.features, held_out.y)
        of_data, ceiling = self._of_data
        of_samples = self._fit(x, y)
        return (
            self._accuracy("gan_train", of_samples, held_out.features, held_out.y)
            | self._accuracy("gan_test", of_data, x, y)
            | ceiling
        )

    def protocol(self) -> dict[str, Any]:
        """Adds the classifier, and what it is tested on."""
        found = super().protocol()
        held_out: Any = "none: tested on the reference itself"
        if self._held_out is not None:
            kept = ("split", "limit", "fingerprint")
            held_out = {key: self._held_out.protocol.get(key) for key in kept} | {"num": self._held_out.n}
        return {
            **found,
            "values": [f"{value}_{self.extractor.name}" for value in ("gan_train", "gan_test", "real_accuracy")],
            "classifier": "linear probe: multinomial logistic regression of standardised features, by scikit-learn",
            "l2": self.l2,
            "held_out": held_out,
            "standard_error": found["standard_error"] and f"{found['standard_error']}, of what is tested on",
        }

    def _fit(self, x: Tensor | None, y: Tensor | None) -> "Pipeline":
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        assert x is not None
        assert y is not None
        # scikit-learn minimises C Σ cross-entropy + ½‖W‖², from W = 0, without random numbers
        regression = LogisticRegression(C=1 / (self.l2 * len(x)), solver="lbfgs", tol=1e-4, max_iter=2000)
        return make_pipeline(StandardScaler(), regression).fit(x.double().cpu().numpy(), y.cpu().numpy())

    def _accuracy(self, prefix: str, classifier: "Pipeline", x: Tensor | None, y: Tensor | None) -> dict[str, Tensor]:
        assert x is not None
        assert y is not None
        right = torch.from_numpy(classifier.predict(x.double().cpu().numpy()) == y.cpu().numpy()).double()
        name = f"{prefix}_{self.extractor.name}"
        found = {name: right.mean()}
        if enough(len(right), self.blocks):
            block = blocks_of(torch.arange(len(right)), self.blocks)
            left_out = torch.stack([right[block != b].mean() for b in range(self.blocks)])
            found[f"{name}_se"] = standard_error(left_out)
        return found
