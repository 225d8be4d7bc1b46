"""Attributes, (B, A) numbers in {0, 1} as `y`, are no classes: metrics are as without them."""

from dataclasses import replace

import pytest
from metrics_fakes import Linear, Table, sampler, vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import (
    FID,
    KID,
    ClassDiversity,
    ClassFID,
    ClassificationAccuracy,
    InceptionScore,
    Memorisation,
    PrecisionRecall,
    measure,
    reference_statistics,
)


class Faces(Table):
    """With two attributes."""

    def rows(self, *args, **kwargs):
        return (batch | {"y": attributes(batch["x"])} for batch in super().rows(*args, **kwargs))


def attributes(x):
    return (x[:, :2] > 0).float()


def draw(seeds):
    x = sampler(seeds)
    return {"x": x, "y": attributes(x)}


def run(draw, metrics):
    return measure(draw, metrics, num_samples=60, batch_size=16, seed=3, device="cpu", quantise=lambda x: x)


@pytest.mark.parametrize("kind", [FID, KID, InceptionScore, Memorisation, PrecisionRecall])
def test_values_are_those_without_attributes(kind, tmp_path):
    found = []
    for source, model in ((Table, sampler), (Faces, draw)):
        metric = kind(Linear())
        metric.fit_reference(source(vectors(80)), cache_dir=tmp_path / source.__name__)
        found.append(run(model, [metric]))
    assert found[0] == found[1]


def test_features_given_by_hand_may_carry_them():
    metric = PrecisionRecall(Linear())
    metric.set_reference(reference_statistics(Linear(), Faces(vectors(80)), needs={"moments", "features"}))
    metric.begin(40)
    x = vectors(40, 1)
    metric.update_features(replace(metric.extractor(x), y=attributes(x)))
    metric.compute()
    assert metric.classes is None


def test_a_reference_keeps_none(tmp_path):
    for cached in range(2):
        reference = reference_statistics(Linear(), Faces(vectors(80)), cache_dir=tmp_path, needs={"features"})
        assert reference.y is None, cached
        assert reference.features.shape == (80, 8)


@pytest.mark.parametrize("kind", [ClassFID, ClassDiversity, ClassificationAccuracy])
def test_metrics_of_classes_say_that_they_need_classes(kind, tmp_path):
    with pytest.raises(UserError, match="works on classes, one a sample, but the data have none"):
        kind(Linear()).fit_reference(Faces(vectors(80)), cache_dir=tmp_path)
    x, metric = vectors(80), kind(Linear())
    metric.set_reference(replace(reference_statistics(Linear(), Table(x), needs={"features"}), y=(x[:, 0] > 0).long()))
    with pytest.raises(UserError, match="works on classes, one a sample, but the samples have none"):
        run(draw, [metric])
