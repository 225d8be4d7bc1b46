import numpy as np
import pytest
import torch
from metrics_fakes import vectors

from lightning_gen.errors import UserError
from lightning_gen.metrics import Raw, ReferenceStatistics, measure_batches
from lightning_gen.metrics.blocks import blocks_of
from lightning_gen.metrics.class_diversity import ClassDiversity


def reference(x, y):
    x64 = x.double()
    return ReferenceStatistics(x64.mean(0), torch.cov(x64.T), len(x), features=x, y=y)


def values(metric, x, y, batch=64):
    batches = [{"x": x[i], "index": i} | ({} if y is None else {"y": y[i]}) for i in torch.arange(len(x)).split(batch)]
    return measure_batches(batches, [metric], num_samples=len(x), device="cpu")


def problem(n=620, m=80):
    """Classes of different spread, far from the origin and from each other."""
    x, data, y, labels = vectors(n), vectors(m, 1), torch.arange(n) % 3, torch.arange(m) * 3 // m
    return x * (1 + y[:, None]) + 50 * y[:, None] + 100, y, data * 1.5, labels


def ratios(x, y, data, labels):
    def trace(rows):
        return float(rows.double().var(dim=0, correction=1).sum())

    return np.array([trace(x[y == k]) / trace(data[labels == k]) for k in range(3)])


@pytest.mark.parametrize("batch", [7, 64])
def test_against_the_definition(batch):
    x, y, data, labels = problem()
    metric = ClassDiversity(Raw(6))
    metric.set_reference(reference(data, labels))
    found, expected = values(metric, x, y, batch), ratios(x, y, data, labels)
    assert found["class_diversity_raw"] == pytest.approx(expected.mean(), rel=1e-9)
    assert [found[f"class_diversity_raw_class{k}"] for k in range(3)] == pytest.approx(expected, rel=1e-9)
    block = blocks_of(torch.arange(620), 20)
    left_out = np.array([ratios(x[block != b], y[block != b], data, labels) for b in range(20)])
    assert found["class_diversity_raw_se"] == pytest.approx(left_out.mean(1).std() * 19**0.5, rel=1e-7)
    assert found["class_diversity_raw_class2_se"] == pytest.approx(left_out[:, 2].std() * 19**0.5, rel=1e-7)
    assert metric.higher_is_better is None


def test_of_the_data_and_of_a_class_that_has_collapsed():
    x, y, _, _ = problem()
    metric = ClassDiversity(Raw(6))
    metric.set_reference(reference(x, y))
    assert values(metric, x, y)["class_diversity_raw"] == pytest.approx(1, rel=1e-10)
    collapsed = torch.where(y[:, None] == 1, x[y == 1][:1], x)
    found = values(metric, collapsed, y)
    assert found["class_diversity_raw_class1"] == pytest.approx(0, abs=1e-9)
    assert found["class_diversity_raw"] == pytest.approx(2 / 3, rel=1e-9)


def test_several_references_one_after_the_other():
    x, y, data, labels = problem()
    metric = ClassDiversity(Raw(6), blocks=0)
    metric.set_reference(reference(data, labels % 2))
    two = values(metric, x, y % 2)
    assert list(two) == ["class_diversity_raw", "class_diversity_raw_class0", "class_diversity_raw_class1"]
    metric.set_reference(reference(data, labels))
    assert values(metric, x, y)["class_diversity_raw"] == pytest.approx(ratios(x, y, data, labels).mean(), rel=1e-9)


def test_a_class_that_loses_its_last_pair_to_a_block():
    x, y = vectors(210), torch.zeros(210, dtype=torch.int64)
    y[:2] = 1
    metric = ClassDiversity(Raw(6))
    metric.set_reference(reference(x, y))
    found = values(metric, x, y)
    assert found["class_diversity_raw"] == pytest.approx(1)
    assert np.isfinite(list(found.values())).all()


def test_refusals():
    x, y, data, labels = problem()
    metric = ClassDiversity(Raw(6))
    with pytest.raises(UserError, match="the data have none: use labelled data"):
        metric.set_reference(reference(data, None))
    with pytest.raises(UserError, match="in each class, but class 1 has 0: use more data"):
        metric.set_reference(reference(data, 2 * (labels > 0)))
    with pytest.raises(UserError, match="those of class 2 are all equal"):
        metric.set_reference(reference(torch.where(labels[:, None] == 2, torch.ones(6), data), labels))
    metric.set_reference(reference(data, labels))
    with pytest.raises(UserError, match="the samples have none: measure a model with num_classes"):
        values(metric, x, None)
    with pytest.raises(UserError, match="class 3, but the data have only classes 0 to 2"):
        values(metric, x, y + 1)
    with pytest.raises(UserError, match="class 1 has 0: use a larger num_samples"):
        values(metric, x, 2 * (y > 0))
